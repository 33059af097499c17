"""True positives, predictions and gold counts per label, and the F1 family computed from them.

Definitions are scikit-learn's over the **whole label space** (``labels=all, zero_division=0``), the form in which
results are published: a label with neither gold rows nor predictions scores 0 and counts in the macro average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sortal.evaluation.scores import Floats, Task


def ratio(top: Any, bottom: Any, otherwise: float = 0.0) -> Floats:
    """``top / bottom`` element-wise in float64, ``otherwise`` where ``bottom`` is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    result: Floats = np.full(top.shape, otherwise)
    np.divide(top, bottom, out=result, where=bottom != 0)
    return result


def f1(hits: Floats, predicted: Floats, gold: Floats) -> Floats:
    """F1 = 2·TP / (predicted + gold), 0 where a label has neither."""
    return ratio(2 * hits, predicted + gold)


@dataclass(frozen=True)
class LabelIndicators:
    """Which row has which label: sparse float64 ``[L, n]`` matrices of gold, predicted and both.

    Multiplying them with resample counts ``[n, c]`` gives per-label counts of every resample without a loop over rows.
    """

    gold: Any
    predicted: Any
    hits: Any

    @classmethod
    def build(cls, gold: NDArray[Any], predicted: NDArray[Any], n_labels: int, task: Task) -> LabelIndicators:
        """From int ``[n]`` (−1 = abstained) or 0/1 ``[n, L]`` arrays."""
        if task == "single":
            return cls(
                _one_hot(gold, gold >= 0, n_labels),
                _one_hot(predicted, predicted >= 0, n_labels),
                _one_hot(gold, gold == predicted, n_labels),
            )
        return cls(*(_transposed(m) for m in (gold, predicted, gold & predicted)))

    def counts(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """(hits, predicted, gold), each ``[L, c]``, under row weights ``[n, c]``."""
        return self.hits @ weights, self.predicted @ weights, self.gold @ weights


def _one_hot(labels: NDArray[Any], keep: NDArray[np.bool_], n_labels: int) -> Any:
    rows = np.flatnonzero(keep)
    return sparse.csr_array((np.ones(len(rows)), (labels[rows], rows)), shape=(n_labels, len(labels)))


def _transposed(matrix: NDArray[Any]) -> Any:
    rows, labels = np.nonzero(matrix)
    return sparse.csr_array((np.ones(len(rows)), (labels, rows)), shape=matrix.shape[::-1])


def f1_averages(
    hits: Floats, predicted: Floats, gold: Floats, in_macro: NDArray[np.bool_]
) -> dict[str, Floats]:
    """``f1_micro``, ``f1_macro``, ``f1_weighted``, each ``[c]``, from per-label counts ``[L, c]``.

    Args:
        hits: true positives.
        predicted: how often the label was given.
        gold: how often it is right.
        in_macro: bool ``[L, c]``: which labels the macro average runs over.
    """
    per_label = f1(hits, predicted, gold)
    return {
        "f1_micro": f1(hits.sum(axis=0), predicted.sum(axis=0), gold.sum(axis=0)),
        "f1_macro": ratio((per_label * in_macro).sum(axis=0), in_macro.sum(axis=0)),
        "f1_weighted": ratio((per_label * gold).sum(axis=0), gold.sum(axis=0)),
    }
