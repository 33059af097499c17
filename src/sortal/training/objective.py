"""What one optimiser step minimises: a loss per example, however the step's examples are cut into microbatches."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.packing import Pack, pack
from sortal.training.losses import Loss

Ints = npt.NDArray[np.int64]


class Objective(Protocol):
    """Training examples with their loss, as the loop sees them."""

    lengths: Ints
    """Tokens that each example adds to a microbatch, int64 ``[n]``."""
    shared_tokens: int
    """Tokens that every microbatch computes beside its examples'."""

    def prepare(self, batch: Ints, step: int) -> None:
        """Called before a step's microbatches with all of its examples; what is drawn here depends on nothing else."""

    def losses(self, rows: Ints) -> torch.Tensor:
        """Losses of some of the prepared examples, fp32 ``[len(rows)]``; must not depend on which are together in ``rows``."""


class Classification:
    """A network's logits against labels.

    Args:
        model: packs in, logits ``[examples, labels]`` out.
        targets: int64 ``[n]`` or float ``[n, labels]``.
        causal: whether a token sees only those before it.
        r_drop: weight of the divergence between two passes with different dropout (R-Drop, arXiv 2106.14448).
        contrastive: weight of a supervised-contrastive term (arXiv 2004.11362) among the examples of a microbatch.
    """

    shared_tokens = 0

    def __init__(
        self,
        model: nn.Module,
        texts: EncodedTexts,
        targets: torch.Tensor,
        loss: Loss,
        device: torch.device,
        *,
        causal: bool = True,
        r_drop: float = 0.0,
        contrastive: float = 0.0,
    ) -> None:
        self.model, self.texts, self.targets = model, texts, targets
        self.loss, self.device = loss.to(device), device
        self.lengths = texts.lengths
        self.causal, self.r_drop, self.contrastive = causal, r_drop, contrastive

    @property
    def fixed_shapes(self) -> bool:
        """Whether a pack's shapes alone decide which kernels run, so that they can be recorded: on CUDA, in half precision, packed."""
        dtype = next(self.model.parameters()).dtype
        return self.device.type == "cuda" and dtype != torch.float32 and getattr(self.model, "packed", False)

    def prepare(self, batch: Ints, step: int) -> None:
        """Nothing is drawn."""

    def losses(self, rows: Ints) -> torch.Tensor:
        """See `Objective.losses`."""
        packed = pack([self.texts[i] for i in rows], causal=self.causal).to(self.device)
        return self.pack_losses(packed, self.targets[torch.from_numpy(rows)].to(self.device), None)

    def pack_losses(self, rows: Pack, targets: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
        """Losses of a pack's examples, fp32 ``[examples]``; ``real``: which places hold an example (None: all)."""
        if not self.contrastive:
            logits = self.model(rows)
            loss = self.loss(logits, targets)
        else:
            states = self.model.states(rows)
            logits = self.model.inner.score(states)
            loss = self.loss(logits, targets) + self.contrastive * _contrast(states, targets, real)
        if self.r_drop:
            again = self.model(rows)
            loss = 0.5 * (loss + self.loss(again, targets)) + self.r_drop * _divergence(
                logits, again, self.loss.task
            )
        return loss


def _divergence(a: torch.Tensor, b: torch.Tensor, task: str) -> torch.Tensor:
    """Symmetric Kullback-Leibler divergence of two predictions, ``[n]``; with several labels the mean over them."""
    if task == "single":
        p, q = a.log_softmax(-1), b.log_softmax(-1)
        return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(-1)
    return 0.5 * ((a.sigmoid() - b.sigmoid()) * (a - b)).mean(-1)


def _contrast(
    states: torch.Tensor, targets: torch.Tensor, real: torch.Tensor | None, heat: float = 0.1
) -> torch.Tensor:
    unit = nn.functional.normalize(states, dim=-1)
    alike = unit @ unit.T / heat
    n = len(states)
    self_ = torch.eye(n, dtype=torch.bool, device=states.device)
    off = self_ if real is None else self_ | ~real[None, :]
    chance = alike.masked_fill(off, -1e9).log_softmax(-1)
    if targets.ndim == 1:
        same = (targets[:, None] == targets[None, :]).float()
    else:
        both = targets @ targets.T
        size = targets.sum(-1)
        same = both / (size[:, None] + size[None, :] - both).clamp(min=1)
    same = same.masked_fill(off, 0.0)
    return -(same * chance.clamp(min=-1e4)).sum(-1) / same.sum(-1).clamp(min=1)
