"""All answers as one tree of tokens, so that what answers have in common is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sortal.backbone.trees import TreeRow

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trie:
    """Nodes in breadth-first order; node 0 is the root, the state right after the answer cue.

    token, parent, depth: int64 ``[nodes]`` (the root's token is -1 and its parent is itself).
    ends: int64 ``[labels]``, the node that ends each label's answer; its token is the terminator.
    """

    token: Ints
    parent: Ints
    depth: Ints
    ends: Ints

    @classmethod
    def build(cls, answers: Sequence[Sequence[int]], *, terminated: bool = True) -> Trie:
        """The trie of token sequences.

        Args:
            terminated: every answer ends with a terminator, so that none may be the beginning of another.

        Raises:
            ValueError: an answer is empty, or two are equal, or (``terminated``) one begins another.
        """
        order = sorted(range(len(answers)), key=lambda i: tuple(answers[i]))
        children: dict[tuple[int, ...], int] = {(): 0}
        token, parent, depth = [-1], [0], [0]
        longest = max(map(len, answers))
        for level in range(1, longest + 1):
            for i in order:
                path = tuple(answers[i][:level])
                if len(path) == level and path not in children:
                    children[path] = len(token)
                    token.append(path[-1])
                    parent.append(children[path[:-1]])
                    depth.append(level)
        ends = np.array([children[tuple(answer)] for answer in answers], dtype=np.int64)
        inner = {0, *parent[1:]} if terminated else {0}
        if len(set(ends.tolist())) != len(ends) or inner & set(ends.tolist()):
            raise ValueError("every answer must end at a node of its own")
        return cls(np.array(token, np.int64), np.array(parent, np.int64), np.array(depth, np.int64), ends)

    def __len__(self) -> int:
        return len(self.token)

    def row(self, trunk: Ints, nodes: Ints) -> TreeRow:
        """``nodes`` (ascending, without the root, each with its ancestors) as branches of a text."""
        t, m = len(trunk), len(nodes)
        visible = np.zeros((t + m, t + m), dtype=bool)
        visible[:t, :t] = np.tri(t, dtype=bool)
        visible[t:, :t] = True
        visible[t:, t:] = self.ancestors[np.ix_(nodes, nodes)]
        depth = np.concatenate([np.arange(t), t + self.depth[nodes] - 1])
        return TreeRow(np.concatenate([trunk, self.token[nodes]]), depth, visible)

    @cached_property
    def inner(self) -> Ints:
        """Nodes with children, the root first, ascending: those whose state is needed."""
        found: Ints = np.unique(self.parent[1:])
        return found

    @cached_property
    def ancestors(self) -> Bools:
        """``[nodes, nodes]``: whether the column's node is on the row's path from the root, itself included."""
        found = np.eye(len(self), dtype=bool)
        for node in range(1, len(self)):
            found[node] |= found[self.parent[node]]
        return found

    @cached_property
    def labels_below(self) -> Ints:
        """Number of labels whose answer passes through each node."""
        found: Ints = self.ancestors[self.ends].sum(0)
        return found

    @cached_property
    def edges(self) -> Ints:
        """All nodes but the root in the order of their parents (ties by node); edge e leads to node ``edges[e]``."""
        found: Ints = 1 + np.argsort(self.parent[1:], kind="stable")
        return found

    def accumulate(self, edge_logprobs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Log-probability of every path: ``[n, edges]`` in the order of `edges` to ``[n, nodes]``."""
        paths = np.zeros((len(edge_logprobs), len(self)))
        paths[:, self.edges] = edge_logprobs
        for level in range(2, int(self.depth.max(initial=0)) + 1):
            nodes = np.flatnonzero(self.depth == level)
            paths[:, nodes] += paths[:, self.parent[nodes]]
        return paths

    @cached_property
    def has_children(self) -> Bools:
        """``[nodes]``: whether a node has children, so that its state is needed."""
        found = np.zeros(len(self), dtype=bool)
        found[self.parent[1:]] = True
        return found

    @cached_property
    def _first_child(self) -> Ints:
        # Children of one parent need not be neighbours in breadth-first order: `edges` makes them so.
        return np.searchsorted(self.parent[self.edges], np.arange(len(self) + 1))

    def children_of(self, nodes: Ints) -> Ints:
        """Children of ``nodes``, parent after parent, in the order of `edges`."""
        pieces = [self.edges[self._first_child[n] : self._first_child[n + 1]] for n in nodes.tolist()]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
