"""Below which probability no single threshold can be best: counted on a grid, so that only the rest has to be sorted."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sortal.evaluation.counts import f1
from sortal.evaluation.scores import Floats, row_blocks

ThresholdMetric = Literal["f1_macro", "f1_micro"]

FROM_PAIRS = 5_000_000  # sorting fewer is no trouble
_GRID = expit(np.linspace(-18, 10, 225))


def search_floor(
    probabilities: Floats,
    gold: NDArray[np.uint8],
    fold: NDArray[np.int64],
    metric: ThresholdMetric,
    from_pairs: int = FROM_PAIRS,
) -> float:
    """A probability below which no cut is the best, on all rows and on all but one fold's; 0 where nothing can be left out.

    F1 at a cut is at most 2·P / (max(m, P) + P), with P positives and m rows at or above it, and m only grows as the cut falls:
    once that bound is below an F1 that is reached higher up, the search may end.

    Args:
        probabilities: ``[n, L]``.
        gold: 0/1 ``[n, L]``.
        fold: ``[n]``, from 0.
        metric: what the cut is to maximise.
        from_pairs: with fewer pairs the answer is 0.
    """
    n, n_labels = probabilities.shape
    if n * n_labels < from_pairs:
        return 0.0
    folds = int(fold.max()) + 1
    taken, hits = (np.zeros((folds, n_labels * (len(_GRID) + 1)), np.int32) for _ in range(2))
    labels = np.arange(n_labels) * (len(_GRID) + 1)
    for k in range(folds):
        for rows in row_blocks(np.flatnonzero(fold == k), n_labels):
            cell = np.searchsorted(_GRID, probabilities[rows], side="right") + labels
            taken[k] += np.bincount(cell.ravel(), minlength=taken.shape[1]).astype(np.int32)
            hits[k] += np.bincount(cell[gold[rows] == 1], minlength=taken.shape[1]).astype(np.int32)
    all_taken, all_hits = taken.sum(axis=0), hits.sum(axis=0)
    left_out = [(0, 0), *((taken[k], hits[k]) for k in range(folds))]
    floors = [
        _floor(_from_top(all_taken - some, n_labels), _from_top(all_hits - found, n_labels), metric)
        for some, found in left_out
    ]
    return min(floors)


def _from_top(counts: NDArray[np.int32], n_labels: int) -> Floats:
    """Rows at or above each value of the grid, the highest value first, then all rows: ``[L, grid + 1]``."""
    return np.cumsum(counts.reshape(n_labels, -1)[:, ::-1], axis=1, dtype=np.float64)


def _floor(taken: Floats, hits: Floats, metric: ThresholdMetric) -> float:
    positives = hits[:, -1]
    if metric == "f1_micro":
        taken, hits = taken.sum(axis=0, keepdims=True), hits.sum(axis=0, keepdims=True)
        positives = hits[:, -1]
    reached = f1(hits, taken, positives[:, None]).mean(axis=0)
    bound = f1(positives[:, None], np.maximum(taken, positives[:, None]), positives[:, None]).mean(axis=0)
    too_low = np.flatnonzero(bound < np.maximum.accumulate(reached) - 1e-9)
    # Column j counts the rows at or above grid value j from the top; the last one all rows.
    return float(_GRID[::-1][too_low[0]]) if len(too_low) and too_low[0] < len(_GRID) else 0.0
