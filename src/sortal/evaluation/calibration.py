"""Are the probabilities true? Temperature scaling (fitted on dev) and the expected calibration error.

Both after Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.scores import BLOCK, Floats, Ints, Task, check_gold, check_scores, row_blocks

TEMPERATURE_RANGE = (0.05, 20.0)
N_BINS = 15
_GRID_POINTS = 13
_CACHED = 500_000  # numbers that stay in the processor's cache


def fit_temperature(scores: NDArray[Any], gold: NDArray[Any], task: Task) -> float:
    """The temperature that makes dev probabilities most likely, within `TEMPERATURE_RANGE`.

    Minimises the summed negative log-likelihood plus ``log(T)² / 2``, a unit Gaussian prior on ``log T``. The prior
    weighs as much as a handful of rows: it keeps T near 1 on a tiny dev set and stops separable scores, whose
    likelihood only grows as T falls, from claiming certainty; on hundreds of rows it does not show.

    Args:
        scores: ``[n, L]``; −inf allowed. Entries whose probability no temperature can change are left out.
        gold: int ``[n]`` (single) or 0/1 ``[n, L]`` (multi).
        task: softmax (single) or sigmoid (multi) likelihood.

    Returns:
        T > 0; exactly 1.0 when nothing can be learned (no rows, a single-label task with one label).
    """
    scores = check_scores(scores, task)
    gold = check_gold(gold, scores.shape[0], scores.shape[1], task)
    loss = _softmax_loss(scores, gold) if task == "single" else _sigmoid_loss(scores, gold)
    if loss is None:
        return 1.0

    def objective(log_t: float) -> float:
        return loss(float(np.exp(-log_t))) + 0.5 * log_t**2

    # The likelihood alone is unimodal in log T, its sum with the prior need not be: bracket on a grid first.
    low, high = np.log(TEMPERATURE_RANGE)
    grid = np.linspace(low, high, _GRID_POINTS)
    best = int(np.argmin([objective(float(x)) for x in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, _GRID_POINTS - 1)])
    from scipy.optimize import minimize_scalar  # a tenth of a second, and only fitting needs it

    found = minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(np.clip(np.exp(found.x), *TEMPERATURE_RANGE))


def _softmax_loss(scores: NDArray[Any], gold: NDArray[Any]) -> Callable[[float], float] | None:
    z = np.array(scores, dtype=np.float64)
    rows = np.isfinite(z[np.arange(len(z)), gold])
    z, gold = z[rows], gold[rows]
    if len(z) == 0 or z.shape[1] == 1:
        return None
    z -= z.max(axis=1, keepdims=True)
    gold_sum = float(z[np.arange(len(z)), gold].sum())
    return lambda beta: float(np.log(np.exp(z * beta).sum(axis=1)).sum()) - beta * gold_sum


def _sigmoid_loss(scores: NDArray[Any], gold: NDArray[Any]) -> Callable[[float], float] | None:
    linear, belows = 0.0, []
    # One table of float64 where it is small; beyond, float32 and a block at a time.
    small = scores.size <= BLOCK
    for rows in row_blocks(np.arange(len(scores)), scores.shape[1]):
        z = np.where(gold[rows], -1.0, 1.0) * np.asarray(scores[rows], dtype=np.float64)
        z = z[np.isfinite(z)]
        linear += float(np.maximum(z, 0).sum())
        below = -np.abs(z)  # softplus(βz) = β·max(z, 0) + log1p(exp(−β|z|)): no overflow at any β
        belows.append(below if small else below.astype(np.float32))
    if not any(below.size for below in belows):
        return None

    def softplus(below: NDArray[Any], beta: float) -> float:
        parts = [below] if small else np.array_split(below, -(-below.size // _CACHED))
        return float(
            sum(np.log1p(np.exp(part * part.dtype.type(beta))).sum(dtype=np.float64) for part in parts)
        )

    return lambda beta: beta * linear + sum(softplus(below, beta) for below in belows)


@dataclass(frozen=True)
class Calibration:
    """How far stated confidence lies from what came true.

    Attributes:
        ece: Σ over bins of (share of predictions in the bin) × |mean confidence − share right|.
        bins: one dict per bin: low, high (bounds, low excluded), count, confidence, accuracy (None when empty).
        gaps: float64 ``[n, bins]``: per row, Σ of (confidence − right) over its predictions that fall in each bin.
        per_row: predictions per row: 1 (single) or L (multi).
    """

    ece: float
    bins: list[dict[str, float | int | None]]
    gaps: Floats
    per_row: int

    @classmethod
    def of(cls, parts: Sequence[BinSums], per_row: int) -> Calibration:
        """From the sums of blocks of rows that together are all."""
        gaps = np.concatenate([part.gaps for part in parts])
        count, stated, true = (
            np.sum([getattr(part, name) for part in parts], axis=0) for name in ("count", "stated", "true")
        )
        n_bins = len(count)
        bins: list[dict[str, float | int | None]] = [
            {
                "low": b / n_bins,
                "high": (b + 1) / n_bins,
                "count": int(count[b]),
                "confidence": float(stated[b] / count[b]) if count[b] else None,
                "accuracy": float(true[b] / count[b]) if count[b] else None,
            }
            for b in range(n_bins)
        ]
        ece = float(np.abs(stated - true).sum() / max(len(gaps) * per_row, 1))
        return cls(ece, bins, gaps, per_row)


@dataclass(frozen=True)
class BinSums:
    """Of some rows: ``gaps`` as of `Calibration`; predictions, Σ confidence and Σ right in each bin."""

    gaps: Floats
    count: Ints
    stated: Floats
    true: Floats


def calibration(probabilities: Floats, gold: NDArray[Any], task: Task, n_bins: int = N_BINS) -> Calibration:
    """Expected calibration error over ``n_bins`` **equal-width** bins on (0, 1].

    Single-label: the confidence of the most probable label, whether or not the decision abstains. Multi-label: every
    label's probability of every row counts once.

    Args:
        probabilities: float64 ``[n, L]``.
        gold: int ``[n]`` (single) or 0/1 ``[n, L]`` (multi).
        task: which of the two definitions.
        n_bins: number of bins.
    """
    per_row = 1 if task == "single" else probabilities.shape[1]
    return Calibration.of([bin_sums(probabilities, gold, task, n_bins)], per_row)


def bin_sums(probabilities: Floats, gold: NDArray[Any], task: Task, n_bins: int = N_BINS) -> BinSums:
    """Arguments as of `calibration`, which it is a part of."""
    n = len(probabilities)
    if task == "single":
        confidence = probabilities.max(axis=1, keepdims=True)
        right = (probabilities.argmax(axis=1) == gold)[:, None].astype(np.float64)
    else:
        confidence, right = probabilities, gold.astype(np.float64)
    which = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    cell = (np.arange(n)[:, None] * n_bins + which).ravel()
    flat = which.ravel()
    of_row = np.bincount(cell, (confidence - right).ravel(), minlength=n * n_bins).reshape(n, n_bins)
    return BinSums(
        np.asarray(of_row, np.float64),
        np.bincount(flat, minlength=n_bins).astype(np.int64),
        np.bincount(flat, confidence.ravel(), minlength=n_bins).astype(np.float64),
        np.bincount(flat, right.ravel(), minlength=n_bins).astype(np.float64),
    )
