"""What a network puts out for a tree of labels that is learned level by level, and how that becomes scores of labels.

A unit is one number of a network's output. `unit_plan` makes the units of a label space; `SoftmaxUnits` are for one label per row,
`NodeUnits` for several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit

from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError
from sortal.hierarchy.tree import LabelTree

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SoftmaxUnits:
    """Choices on the way to a label: units fall into groups, of which a label takes one unit each or none.

    A label's score is the weighted sum of the log-probabilities of its units, each by the softmax of its group.

    Attributes:
        names: of the units ``[U]``, each once.
        says: the node that each unit stands for.
        starts: first unit of every group, int64 ``[G]``; a group ends where the next one begins.
        weights: of the groups, float64 ``[G]``.
        steps: the units on the way to every label, int64 ``[L, S]``, −1 behind the last.
    """

    names: tuple[str, ...]
    says: tuple[str, ...]
    starts: Ints
    weights: Floats
    steps: Ints

    @classmethod
    def conditional(cls, space: LabelSpace, tree: LabelTree) -> SoftmaxUnits:
        """One group per parent: its children, and to stay there where the parent is a label itself. Scores are log p(label)."""
        labels = set(space.names)
        parents = np.array(tree.parents)
        names: list[str] = []
        says: list[str] = []
        starts: list[int] = []
        unit_of: dict[tuple[int, bool], int] = {}
        for parent in [-1, *range(len(tree))]:
            children = np.flatnonzero(parents == parent).tolist()
            if not children:
                continue
            starts.append(len(names))
            stays = [parent] if parent >= 0 and tree.nodes[parent] in labels else []
            for node in children + stays:
                unit_of[node, node == parent] = len(names)
                names.append(f"{tree.nodes[node]} itself" if node == parent else tree.nodes[node])
                says.append(tree.nodes[node])
        ways: list[list[int]] = []
        for name in space.names:
            nodes = [tree.index[node] for node in tree.path(name)]
            way = [unit_of[node, False] for node in nodes]
            itself = unit_of.get((nodes[-1], True))
            ways.append(way if itself is None else [*way, itself])
        return cls(_unique(names), tuple(says), np.array(starts), np.ones(len(starts)), _padded(ways))

    @classmethod
    def by_level(cls, space: LabelSpace, tree: LabelTree, weights: Sequence[float]) -> SoftmaxUnits:
        """One group per level: its nodes, and the labels that end above it. Scores are the weighted mean of the levels' log-probabilities."""
        paths = [tree.path(name) for name in space.names]
        names: list[str] = []
        says: list[str] = []
        starts: list[int] = []
        ways: list[list[int]] = [[] for _ in paths]
        for level, title in enumerate(tree.levels, start=1):
            starts.append(len(names))
            ends = [path[:level][-1] for path in paths]
            unit_of = {node: len(names) + k for k, node in enumerate(dict.fromkeys(ends))}
            names += [f"{title}: {node}" for node in unit_of]
            says += list(unit_of)
            for way, node in zip(ways, ends, strict=True):
                way.append(unit_of[node])
        share = _shares(weights, tree)
        return cls(_unique(names), tuple(says), np.array(starts), share, _padded(ways))

    @cached_property
    def group(self) -> Ints:
        """Group of every unit, int64 ``[U]``."""
        found: Ints = np.searchsorted(self.starts, np.arange(len(self.names)), side="right") - 1
        return found

    def scores(self, logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Scores fp32 ``[n, L]`` of logits ``[n, U]``."""
        z = logits.astype(np.float64)
        z -= np.maximum.reduceat(z, self.starts, axis=1)[:, self.group]
        z -= np.log(np.add.reduceat(np.exp(z), self.starts, axis=1))[:, self.group]
        z *= self.weights[self.group]
        z = np.concatenate([z, np.zeros((len(z), 1))], axis=1)  # where a way is shorter
        return np.asarray(z[:, self.steps].sum(axis=2), dtype=np.float32)

    def targets(self, gold: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """0/1 ``[n, U]``: the units of every row's label; ``gold``: int ``[n]``."""
        found = np.zeros((len(gold), len(self.names) + 1), np.uint8)
        np.put_along_axis(found, self.steps[gold], 1, axis=1)
        return found[:, :-1]

    def counted(self, targets: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """bool ``[n, U]``: whether a row says anything about a unit: one of the unit's group is on its way."""
        return np.maximum.reduceat(targets, self.starts, axis=1)[:, self.group] > 0


@dataclass(frozen=True, eq=False)
class NodeUnits:
    """A yes or no for every node of a tree, in label-space order.

    Attributes:
        tree: of the labels.
        weights: of the nodes in the loss, float64 ``[N]``.
        given_parent: whether a unit is the log-odds of its node where the parent is true; a node's score is then the log-odds of the
            product of the probabilities on the way to it.
    """

    tree: LabelTree
    weights: Floats
    given_parent: bool

    @classmethod
    def conditional(cls, tree: LabelTree) -> NodeUnits:
        """Nodes given their parent, alike in the loss."""
        return cls(tree, np.full(len(tree), 1 / len(tree)), True)

    @classmethod
    def by_level(cls, tree: LabelTree, weights: Sequence[float]) -> NodeUnits:
        """Independent nodes; each level has its share of the loss, spread over its nodes."""
        depth = tree.depth - 1
        return cls(tree, (_shares(weights, tree) / np.bincount(depth))[depth], False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the units: the nodes."""
        return self.tree.nodes

    @property
    def says(self) -> tuple[str, ...]:
        """The node that each unit stands for."""
        return self.tree.nodes

    def scores(self, logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Log-odds fp32 ``[n, N]`` of logits ``[n, N]``."""
        if not self.given_parent:
            return logits.astype(np.float32)
        logp = log_expit(logits.astype(np.float64))
        logp = np.concatenate([logp, np.zeros((len(logp), 1))], axis=1)[:, self.tree.paths].sum(axis=2)
        logp = np.minimum(logp, -np.finfo(np.float64).tiny)  # certainty has no log-odds
        return np.asarray(logp - np.log(-np.expm1(logp)), dtype=np.float32)

    def targets(self, gold: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """``gold``, 0/1 ``[n, N]``, which is closed under ancestors."""
        return gold.astype(np.uint8)

    def counted(self, targets: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """bool ``[n, N]``: whether a row says anything about a node: always, or where it has the parent."""
        if not self.given_parent:
            return np.ones(targets.shape, np.bool_)
        parents = np.array(self.tree.parents)
        return np.where(parents >= 0, targets[:, parents], 1) > 0


Units = SoftmaxUnits | NodeUnits


def unit_plan(space: LabelSpace, hierarchy: str, level_weights: Sequence[float] = ()) -> Units | None:
    """The units of a space whose tree is learned by ``levels`` or as ``conditional``; None where it is ``flat``.

    Raises:
        ConfigError: another number of weights than there are levels.
    """
    tree = space.tree
    if tree is None or hierarchy == "flat":
        return None
    if level_weights and len(level_weights) != len(tree.levels):
        raise ConfigError(
            f"level_weights has {len(level_weights)} numbers, and the tree has {len(tree.levels)} levels",
            "give one per level, the top one first",
        )
    if hierarchy == "conditional":
        return (
            SoftmaxUnits.conditional(space, tree) if space.task == "single" else NodeUnits.conditional(tree)
        )
    if space.task == "single":
        return SoftmaxUnits.by_level(space, tree, level_weights)
    return NodeUnits.by_level(tree, level_weights)


def saved_units(meta: Mapping[str, Any], space: LabelSpace) -> Units | None:
    """The units of a model folder; ``meta``: the content of its sortal.json."""
    return unit_plan(space, meta.get("hierarchy", "flat"), meta.get("level_weights", ()))


def _shares(weights: Sequence[float], tree: LabelTree) -> Floats:
    """Weights of the levels that sum to one."""
    found: Floats = np.array(weights or [1.0] * len(tree.levels), dtype=np.float64)
    found /= found.sum()
    return found


def _padded(ways: Sequence[Sequence[int]]) -> Ints:
    steps = np.full((len(ways), max(map(len, ways))), -1, np.int64)
    for label, way in enumerate(ways):
        steps[label, : len(way)] = way
    return steps


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """``names``, with a number after those that occur before: a label may be called as another one's unit is."""
    found: dict[str, None] = {}
    for name in names:
        number, each = 1, name
        while each in found:
            number += 1
            each = f"{name} ({number})"
        found[each] = None
    return tuple(found)
