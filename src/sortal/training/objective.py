"""What one optimiser step minimises: a loss per example, however the step's examples are cut into microbatches."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import issparse
from torch import nn

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.trunk import TrunkTexts
from sortal.backbone.windows import pack_texts

Ints = npt.NDArray[np.int64]


class ExampleLoss(Protocol):
    """A loss per example, on its own device."""

    def to(self, device: torch.device) -> ExampleLoss:
        """The same loss with its tensors on ``device``."""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses fp32 ``[n]`` of a network's logits ``[n, outputs]``."""


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
        targets: int ``[n]``, or 0/1 ``[n, labels]``, sparse or not: it is made dense for one microbatch at a time.
    """

    def __init__(
        self, model: nn.Module, texts: EncodedTexts, targets: Any, loss: ExampleLoss, device: torch.device
    ) -> None:
        self.model, self.texts, self.targets = model, texts, targets
        self.loss, self.device = loss.to(device), device
        self.lengths, self.shared_tokens = texts.lengths, len(texts.beginning)

    @property
    def fixed_shapes(self) -> bool:
        """Whether a pack's shapes alone decide which kernels run, so that they can be recorded: on CUDA, in half precision, packed, a window per text."""
        if isinstance(self.texts, TrunkTexts) or self.shared_tokens:
            return False
        dtype = next(self.model.parameters()).dtype
        half = self.device.type == "cuda" and dtype != torch.float32
        return half and self.texts.firsts is None and getattr(self.model, "packed", False)

    def targets_of(self, rows: Ints) -> torch.Tensor:
        """int64 ``[len(rows)]`` or fp32 ``[len(rows), labels]``, on the CPU."""
        found = self.targets[rows]
        if found.ndim == 1:
            return torch.from_numpy(np.asarray(found, np.int64))
        return torch.from_numpy(np.asarray(found.toarray() if issparse(found) else found, np.float32))

    def prepare(self, batch: Ints, step: int) -> None:
        """Nothing is drawn."""

    def losses(self, rows: Ints) -> torch.Tensor:
        """See `Objective.losses`."""
        logits = self.model(pack_texts(self.texts, rows).to(self.device))
        return self.loss(logits, self.targets_of(rows).to(self.device))
