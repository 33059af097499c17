"""Average precision per label, under any row weights, so that its bootstrap needs no sort per resample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.counts import ratio
from sortal.evaluation.scores import Floats, Ints


@dataclass(frozen=True)
class _LabelRanking:
    """One label's rows, best score first, cut after every tie group that holds a positive.

    Rows below the lowest positive cannot change the average precision and are left out.
    """

    rows: NDArray[np.int32]
    starts: Ints
    positive_rows: Ints
    positive_starts: Ints


@dataclass(frozen=True)
class Rankings:
    """Sorted once from scores and gold ``[n, L]``; see `average_precision`."""

    labels: tuple[_LabelRanking | None, ...]

    @classmethod
    def build(cls, scores: NDArray[Any], gold: NDArray[Any]) -> Rankings:
        """Rank the rows of every label; a label without a positive row has no ranking."""
        return cls(tuple(_rank(scores[:, k], gold[:, k].astype(bool)) for k in range(scores.shape[1])))

    @property
    def work(self) -> int:
        """Row visits that one weighting costs."""
        return sum(len(r.rows) for r in self.labels if r is not None)

    def average_precision(self, weights: Floats) -> Iterator[Floats]:
        """For each label, ``[c]`` under row weights ``[n, c]``; NaN where no positive row has weight.

        Average precision as scikit-learn defines it: Σ (recall step) × precision over the distinct scores.
        """
        for label in self.labels:
            if label is None:
                yield np.full(weights.shape[1], np.nan)
                continue
            seen = np.cumsum(np.add.reduceat(weights[label.rows], label.starts, axis=0), axis=0)
            step = np.add.reduceat(weights[label.positive_rows], label.positive_starts, axis=0)
            found = np.cumsum(step, axis=0)
            # seen = 0 only where found = 0 and step = 0: the term is 0 whatever the denominator.
            total = (step * found / np.maximum(seen, 1)).sum(axis=0)
            yield ratio(total, found[-1], otherwise=np.nan)

    def mean_average_precision(self, weights: Floats) -> Floats:
        """Mean over the labels that have a positive row under the weights: ``[c]``, NaN where none has."""
        total = np.zeros(weights.shape[1])
        count = np.zeros(weights.shape[1])
        for values in self.average_precision(weights):
            defined = ~np.isnan(values)
            total[defined] += values[defined]
            count += defined
        return ratio(total, count, otherwise=np.nan)


def _rank(scores: NDArray[Any], positive: NDArray[np.bool_]) -> _LabelRanking | None:
    if not positive.any():
        return None
    order = np.argsort(scores, kind="stable")[::-1]
    ranked, hit = scores[order], positive[order]
    group = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])])
    places = np.flatnonzero(hit)
    with_hit, first = np.unique(group[places], return_index=True)
    ends = np.searchsorted(group, with_hit, side="right")
    return _LabelRanking(
        order[: ends[-1]].astype(np.int32), np.concatenate([[0], ends[:-1]]), order[places], first
    )
