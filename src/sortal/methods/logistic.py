"""L2-regularised logistic regression on dense features: softmax over labels, or one per label (one-vs-rest)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from sortal.methods.frequencies import label_counts, log_odds, log_priors

_PASSES = 200
# Of the mean loss's gradient; a tenth of it changes no dev metric in the third decimal.
TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Dense:
    """Scores ``x · weightᵀ + bias``; weight fp32 ``[L, d]``, bias fp32 ``[L]``."""

    weight: torch.Tensor
    bias: torch.Tensor

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """fp32 ``[n, L]`` of features fp32 ``[n, d]``."""
        return torch.addmm(self.bias, x, self.weight.T)


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and scale of features, both fp32 ``[d]``; one that never varies keeps its scale."""

    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor) -> Standard:
        """Of the rows of ``x``."""
        scale = x.std(0, correction=0)
        return cls(x.mean(0), torch.where(scale > 1e-6 * x.abs().amax(0).clamp(min=1e-30), scale, 1.0))

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Features with mean 0 and variance 1 on the rows they were taken from."""
        return (x - self.mean) / self.scale

    def unfold(self, dense: Dense) -> Dense:
        """``dense``, which reads standardised features, as one that reads them as they are."""
        weight = dense.weight / self.scale
        return Dense(weight, dense.bias - weight @ self.mean)


def fit_logistic(
    x: torch.Tensor,
    gold: npt.NDArray[Any],
    n_labels: int,
    strengths: Sequence[float],
    tolerance: float = TOLERANCE,
) -> Iterator[Dense]:
    """Fit one model per C of ``strengths`` (scikit-learn's: ½‖w‖² + C · Σ loss), each from where the last one ended.

    Args:
        x: fp32 ``[n, d]``, standardised.
        gold: int ``[n]`` (softmax over labels) or 0/1 ``[n, L]`` (one-vs-rest).
        n_labels: L.
        strengths: ascending is fastest.
        tolerance: the largest entry of the gradient of the mean loss at which the fit ends.
    """
    n, single = len(x), gold.ndim == 1
    counts = label_counts(gold, n_labels)
    start = torch.zeros(n_labels, x.shape[1] + 1, dtype=torch.float32, device=x.device)
    start[:, -1] = torch.from_numpy((log_priors if single else log_odds)(counts, n).astype(np.float32))
    targets = torch.from_numpy(gold).to(x.device)
    targets = targets.long() if single else targets.float()
    for c in strengths:
        start = _minimise(x, targets, start, 1.0 / (c * n), tolerance)
        yield Dense(start[:, :-1].clone(), start[:, -1].clone())


def _minimise(
    x: torch.Tensor, targets: torch.Tensor, start: torch.Tensor, decay: float, tolerance: float
) -> torch.Tensor:
    """Minimum of the mean loss + decay · ½‖w‖²; the bias is free."""
    both = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [both],
        max_iter=_PASSES,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = torch.addmm(both[:, -1], x, both[:, :-1].T)
        if targets.ndim == 1:
            loss = cross_entropy(logits, targets)
        else:
            loss = binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(x)
        loss = loss + 0.5 * decay * both[:, :-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return both.detach()
