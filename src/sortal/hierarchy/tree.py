"""`LabelTree`: which label lies under which, checked once; everything else about trees is computed from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sortal.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelTree:
    """Nodes with their parents; a node at the top level has none.

    Attributes:
        nodes: names, each once.
        parents: position of every node's parent, −1 at the top level.
        levels: names of the levels, the top one first: as many as the tree is deep.
        separator: what separates the names in a node that is written as a path, ``A/A01``; None when nodes are plain names.
        cut: whether labels below the last level count as their ancestor there.
        below: (label, nearest node above it) of labels that are no nodes, where no path says it: they were cut off, or no training row has them.

    Raises:
        DataError: a node occurs twice, is its own ancestor, or has a parent that is no node.
    """

    nodes: tuple[str, ...]
    parents: tuple[int, ...]
    levels: tuple[str, ...]
    separator: str | None = None
    cut: bool = False
    below: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.nodes)
        if len(self.parents) != n or len(set(self.nodes)) != n or n == 0:
            raise DataError(
                "the tree of labels needs nodes with unique names and one parent each", "repair the tree"
            )
        if not all(-1 <= parent < n for parent in self.parents):
            raise DataError("a parent in the tree of labels is not one of its nodes", "repair the tree")
        for start in range(n):
            node, steps = start, 0
            while node >= 0 and steps <= n:
                node, steps = self.parents[node], steps + 1
            if steps > n:
                raise DataError(
                    f"label {self.nodes[start]!r} is among its own ancestors", "remove the cycle of parents"
                )
        if len(self.levels) != self.paths.shape[1]:
            raise DataError(
                f"the tree of labels is {self.paths.shape[1]} levels deep and has {len(self.levels)} level names",
                "name every level once, the top one first",
            )

    @classmethod
    def from_parents(
        cls,
        parent_of: Mapping[str, str | None],
        order: Sequence[str],
        *,
        levels: Sequence[str] = (),
        separator: str | None = None,
        cut: bool = False,
        below: Mapping[str, str] | None = None,
    ) -> LabelTree:
        """The tree of the nodes in ``order``, whose parents are all among them.

        Args:
            parent_of: every node's parent, None at the top level.
            levels: names of the levels, of which only as many are kept as the tree is deep; default: their numbers.
            separator, cut, below: as in the class.
        """
        index = {name: position for position, name in enumerate(order)}
        parents = [-1 if (up := parent_of[name]) is None else index[up] for name in order]
        depth = _depth(parents)
        names = tuple(levels[:depth]) if levels else tuple(str(level + 1) for level in range(depth))
        return cls(tuple(order), tuple(parents), names, separator, cut, tuple((below or {}).items()))

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def index(self) -> dict[str, int]:
        """Name → position."""
        return {name: position for position, name in enumerate(self.nodes)}

    @cached_property
    def paths(self) -> Ints:
        """Positions from the top level down to every node itself, int64 ``[nodes, levels]``, −1 behind the node."""
        ups = []
        for node in range(len(self)):
            way = [node]
            while self.parents[way[-1]] >= 0:
                way.append(self.parents[way[-1]])
            ups.append(way[::-1])
        paths = np.full((len(self), max(map(len, ups))), -1, np.int64)
        for node, way in enumerate(ups):
            paths[node, : len(way)] = way
        return paths

    @cached_property
    def depth(self) -> Ints:
        """Level of every node, int64 ``[nodes]``, 1 at the top."""
        depth: Ints = (self.paths >= 0).sum(1)
        return depth

    @cached_property
    def closure(self) -> Any:
        """Sparse float64 ``[nodes, nodes]``: 1 where the column's node is the row's or an ancestor of it."""
        rows, _ = np.nonzero(self.paths >= 0)
        columns = self.paths[self.paths >= 0]
        return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(self), len(self)))

    def at_level(self, level: int) -> Ints:
        """Nodes of a level, 1 at the top, ascending."""
        return np.flatnonzero(self.depth == level)

    def path(self, name: str) -> tuple[str, ...]:
        """The nodes from the top level to ``name``, itself included."""
        return tuple(self.nodes[node] for node in self.paths[self.index[name]] if node >= 0)

    def above(self, label: str) -> str | None:
        """The nearest node above a label that is none; None where there is none, or nothing says."""
        if self.separator is None:
            return self._node_above.get(label)
        while label not in self.index and self.separator in label:
            label = label.rpartition(self.separator)[0]
        return label if label in self.index else None

    @cached_property
    def _node_above(self) -> dict[str, str]:
        return dict(self.below)

    def beyond(self, names: Sequence[str]) -> tuple[str, ...]:
        """The nodes that are not among ``names``, level by level from the top."""
        labels = set(names)
        order = np.argsort(self.depth, kind="stable").tolist()
        return tuple(self.nodes[node] for node in order if self.nodes[node] not in labels)

    def of_labels(self, names: Sequence[str], probabilities: Floats) -> Floats:
        """Probability of every node ``[n, nodes]``, that of the labels at and under it, of which a row has exactly one.

        Args:
            names: the labels in the order of the columns of ``probabilities``.
        """
        own = np.zeros((len(probabilities), len(self)))
        own[:, [self.index[name] for name in names]] = probabilities
        return self.sums(own)

    def wording(self, name: str) -> str:
        """The names on the way to ``name``, joined: what an answer in words says."""
        return " / ".join(map(self.own_name, self.path(name)))

    def own_name(self, name: str) -> str:
        """The last name of a path; a plain name as it is."""
        return name if self.separator is None else name.rpartition(self.separator)[2]

    def close(self, given: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """0/1 ``[n, nodes]`` with the ancestors of every given node given as well."""
        return self._upwards(given.astype(np.uint8), np.maximum)

    def sums(self, own: Floats) -> Floats:
        """What lies at or under every node, ``[n, nodes]``; never less than at any node under it, and at most 1."""
        # Adding what is not negative never rounds below what is added to, so sums grow towards the top.
        found: Floats = np.minimum(self._upwards(own.astype(np.float64), np.add), 1.0)
        return found

    def monotone(self, probabilities: Floats) -> Floats:
        """Probabilities ``[n, nodes]`` of which none is above its parent's."""
        found = np.array(probabilities, dtype=np.float64)
        for level in range(2, len(self.levels) + 1):
            nodes = self.at_level(level)
            found[:, nodes] = np.minimum(found[:, nodes], found[:, np.array(self.parents)[nodes]])
        return found

    def _upwards(self, values: npt.NDArray[Any], combine: np.ufunc) -> npt.NDArray[Any]:
        parents, columns = np.array(self.parents), values.T.copy()
        for level in range(len(self.levels), 1, -1):
            nodes = self.at_level(level)
            nodes = nodes[np.argsort(parents[nodes], kind="stable")]
            ups, starts = np.unique(parents[nodes], return_index=True)
            columns[ups] = combine(columns[ups], combine.reduceat(columns[nodes], starts, axis=0))
        return np.ascontiguousarray(columns.T)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of everything in it."""
        return hashlib.sha256(json.dumps(self._values(), ensure_ascii=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_json` reads it back."""
        return {**self._values(), "hash": self.hash}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LabelTree:
        """The inverse of `to_json`.

        Raises:
            DataError: the values are not those that were saved.
        """
        try:
            tree = cls(
                tuple(values["nodes"]),
                tuple(values["parents"]),
                tuple(values["levels"]),
                values["separator"],
                values["cut"],
                tuple((label, node) for label, node in values["below"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"the saved tree of labels is damaged ({error})", "restore the original file"
            ) from None
        if tree.hash != values.get("hash"):
            raise DataError("the saved tree of labels was edited", "restore the original file")
        return tree

    def _values(self) -> dict[str, Any]:
        return {
            "nodes": list(self.nodes),
            "parents": list(self.parents),
            "levels": list(self.levels),
            "separator": self.separator,
            "cut": self.cut,
            "below": [list(pair) for pair in self.below],
        }


def _depth(parents: Sequence[int]) -> int:
    """Levels of a tree; a cycle counts as deep as there are nodes, and is refused later."""
    deepest = 0
    for start in range(len(parents)):
        node, steps = start, 0
        while node >= 0 and steps < len(parents):
            node, steps = parents[node], steps + 1
        deepest = max(deepest, steps)
    return deepest
