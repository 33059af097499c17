"""What one optimiser step minimises: a loss per example, however the step's examples are cut into microbatches."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.windows import pack_texts
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
    """A network's logits against labels. All windows of a text are in one microbatch, so its loss is that of its whole.

    Args:
        model: packs in, logits ``[texts, labels]`` out.
        targets: int64 ``[n]`` or float ``[n, labels]``.
    """

    shared_tokens = 0

    def __init__(
        self, model: nn.Module, texts: EncodedTexts, targets: torch.Tensor, loss: Loss, device: torch.device
    ) -> None:
        self.model, self.texts, self.targets = model, texts, targets
        self.loss, self.device = loss.to(device), device
        self.lengths = texts.lengths

    @property
    def fixed_shapes(self) -> bool:
        """Whether a pack's shapes alone decide which kernels run, so that they can be recorded: on CUDA, in half precision, packed, a window per text."""
        dtype = next(self.model.parameters()).dtype
        half = self.device.type == "cuda" and dtype != torch.float32
        return half and self.texts.firsts is None and getattr(self.model, "packed", False)

    def prepare(self, batch: Ints, step: int) -> None:
        """Nothing is drawn."""

    def losses(self, rows: Ints) -> torch.Tensor:
        """See `Objective.losses`."""
        logits = self.model(pack_texts(self.texts, rows).to(self.device))
        return self.loss(logits, self.targets[torch.from_numpy(rows)].to(self.device))
