"""`LabelMetrics`: accuracy and the F1 family of one system as a function of row sums.

Every figure here depends on the rows only through sums over them — label counts, right rows, F1 per row. A weighting of
rows, be it all rows once, a bootstrap resample or an exchange of two systems' answers, changes the sums and nothing else,
so `metrics.evaluate` and the paired tests share one definition of each metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sortal.evaluation.counts import LabelIndicators, f1_averages, ratio
from sortal.evaluation.scores import Floats, Task

LABEL_METRICS: dict[Task, tuple[str, ...]] = {
    "single": ("accuracy", "f1_micro", "f1_macro", "f1_weighted"),
    "multi": ("f1_micro", "f1_macro", "f1_weighted", "f1_samples", "subset_accuracy"),
}
# Those that are 1 (or 0) exactly when every row is right (or none is): micro-F1 of one label per row is accuracy, or close to it.
SHARES: dict[Task, tuple[str, ...]] = {"single": ("accuracy", "f1_micro"), "multi": ("subset_accuracy",)}


@dataclass(frozen=True)
class LabelMetrics:
    """One system's answers on ``n`` rows, ready to be summed under any weighting of the rows.

    Attributes:
        task: single or multi.
        features: sparse float64 ``[k, n]``: hits, predicted and gold of each label (``3 L`` rows in this order), then
            for multi-label F1 of the row and whether all its labels are right.
        absent: bool ``[L]``: labels without gold rows or predictions in all ``n`` rows.
    """

    task: Task
    features: Any
    absent: NDArray[np.bool_]

    @classmethod
    def build(cls, gold: NDArray[Any], predicted: NDArray[Any], n_labels: int, task: Task) -> LabelMetrics:
        """From int ``[n]`` (−1 in ``predicted`` = abstained, which is wrong) or 0/1 ``[n, L]`` arrays."""
        indicators = LabelIndicators.build(gold, predicted, n_labels, task)
        parts = [indicators.hits, indicators.predicted, indicators.gold]
        if task == "multi":
            both = (gold & predicted).sum(axis=1, dtype=np.int64)
            given = gold.sum(axis=1, dtype=np.int64) + predicted.sum(axis=1, dtype=np.int64)
            exact = (gold == predicted).all(axis=1).astype(np.float64)
            parts.append(sparse.csr_array(np.stack([ratio(2 * both, given), exact])))
        features = sparse.vstack(parts, format="csr")
        _, ever_predicted, ever_gold = indicators.counts(np.ones((len(gold), 1)))
        return cls(task, features, (ever_predicted + ever_gold)[:, 0] == 0)

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.features.shape[1])

    def sums(self, weights: Floats) -> Floats:
        """``[k, c]``: the features summed under row weights ``[n, c]``, each column of which sums to ``n``."""
        result: Floats = self.features @ weights
        return result

    def counts(self, sums: Floats) -> tuple[Floats, Floats, Floats]:
        """(hits, predicted, gold), each ``[L, c]``, out of ``sums``."""
        width = len(self.absent)
        return sums[:width], sums[width : 2 * width], sums[2 * width : 3 * width]

    def values(self, sums: Floats, in_macro: NDArray[np.bool_] | None = None) -> dict[str, Floats]:
        """Each of `LABEL_METRICS` as ``[c]``.

        Args:
            sums: ``[k, c]``, of `sums`.
            in_macro: bool ``[L, c]``, the labels f1_macro runs over; None: the whole label space.
        """
        hits, predicted, gold = self.counts(sums)
        if in_macro is None:
            in_macro = np.ones(hits.shape, dtype=np.bool_)
        averages = f1_averages(hits, predicted, gold, in_macro)
        if self.task == "single":
            return {"accuracy": hits.sum(axis=0) / self.n, **averages}
        of_rows = sums[3 * len(self.absent) :] / self.n
        return {**averages, "f1_samples": of_rows[0], "subset_accuracy": of_rows[1]}

    def resampled(self, weights: Floats) -> dict[str, Floats]:
        """`values` on bootstrap resamples ``[n, c]``.

        A resample that misses a label of these rows tells nothing about that label's F1. In simulations with many rare
        labels, leaving it out of that resample covered better than counting 0 or its F1 over all rows.
        """
        sums = self.sums(weights)
        _, predicted, gold = self.counts(sums)
        return self.values(sums, (predicted + gold > 0) | self.absent[:, None])
