"""Losses of the units of a tree: one number per example, so that a step does not depend on how it is cut (see `training.losses`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from sortal.hierarchy.units import NodeUnits, SoftmaxUnits, Units


@dataclass(frozen=True, eq=False)
class SoftmaxLoss:
    """Minus the score of the right label: cross-entropy of every choice on the way to it, weighted by group.

    group: int64 ``[U]``. weights: fp32 ``[U]``, of each unit's group. steps: int64 ``[L, S]``, U behind the last. groups: their number.
    """

    group: torch.Tensor
    weights: torch.Tensor
    steps: torch.Tensor
    groups: int
    shifts_probabilities = False

    def to(self, device: torch.device) -> SoftmaxLoss:
        """The same loss on ``device``."""
        group, weights, steps = (each.to(device) for each in (self.group, self.weights, self.steps))
        return replace(self, group=group, weights=weights, steps=steps)

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses fp32 ``[n]`` of logits ``[n, U]`` against labels int64 ``[n]``."""
        logits = logits.float()
        index = self.group.expand(len(logits), -1)
        most = logits.new_full((len(logits), self.groups), -torch.inf)
        most = most.scatter_reduce(1, index, logits.detach(), "amax")
        z = logits - most.gather(1, index)
        sums = z.new_zeros(len(z), self.groups).scatter_add(1, index, z.exp())
        weighted = F.pad((z - sums.log().gather(1, index)) * self.weights, (0, 1))
        return -weighted.gather(1, self.steps[targets]).sum(1)


@dataclass(frozen=True, eq=False)
class NodeLoss:
    """Binary cross-entropy of every node, weighted; given its parent, only in rows that have the parent.

    weights: fp32 ``[N]``. parents: int64 ``[N]``, N at the top level; None: every row counts for every node.
    """

    weights: torch.Tensor
    parents: torch.Tensor | None
    shifts_probabilities = False

    def to(self, device: torch.device) -> NodeLoss:
        """The same loss on ``device``."""
        parents = None if self.parents is None else self.parents.to(device)
        return replace(self, weights=self.weights.to(device), parents=parents)

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses fp32 ``[n]`` of logits ``[n, N]`` against 0/1 ``[n, N]``, closed under ancestors."""
        targets = targets.float()
        loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none") * self.weights
        if self.parents is not None:
            loss = loss * F.pad(targets, (0, 1), value=1.0)[:, self.parents]
        return loss.sum(1)


TreeLoss = SoftmaxLoss | NodeLoss


def tree_loss(units: Units) -> TreeLoss:
    """The loss that trains ``units``."""
    if isinstance(units, SoftmaxUnits):
        steps = torch.from_numpy(units.steps)
        return SoftmaxLoss(
            torch.from_numpy(units.group),
            torch.from_numpy(units.weights[units.group]).float(),
            torch.where(steps < 0, len(units.names), steps),
            len(units.starts),
        )
    assert isinstance(units, NodeUnits)
    parents = torch.tensor(units.tree.parents)
    return NodeLoss(
        torch.from_numpy(units.weights).float(),
        torch.where(parents < 0, len(units.names), parents) if units.given_parent else None,
    )
