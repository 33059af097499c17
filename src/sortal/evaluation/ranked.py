"""How good the first labels of a row are: precision, recall, nDCG and propensity-scored precision at k.

With thousands of labels a person, or a next stage, looks at a short list; these figures need no threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.counts import ratio
from sortal.evaluation.frequency import LabelFrequencies
from sortal.evaluation.scores import Floats, Ints, Task

AT = (1, 3, 5)
MANY = 50  # from more labels on, a single-label task has these figures too, and the terminal shows them


@dataclass(frozen=True)
class Ranked:
    """Each figure as the ratio of two sums over rows, so that it follows any weighting of the rows.

    Attributes:
        names: of the figures.
        over, under: float64 ``[figures, n]``.
    """

    names: tuple[str, ...]
    over: Floats
    under: Floats

    @classmethod
    def joined(cls, parts: Sequence[Ranked]) -> Ranked:
        """Of all rows, from those of blocks of them."""
        over, under = (
            np.concatenate([getattr(part, what) for part in parts], axis=1) for what in ("over", "under")
        )
        return cls(parts[0].names, over, under)

    def values(self, weights: Floats) -> dict[str, Floats]:
        """Each figure ``[c]`` under row weights ``[n, c]``, NaN where no row counts."""
        found = ratio(self.over @ weights, self.under @ weights, otherwise=np.nan)
        return dict(zip(self.names, found, strict=True))


def ranked(
    scores: NDArray[Any], gold: NDArray[Any], task: Task, frequencies: LabelFrequencies | None = None
) -> Ranked:
    """Figures at k = 1, 3 and 5, as far as there are so many labels; of equal scores the label that comes first wins.

    Multi-label, over the rows with at least one gold label: ``p_at_k``, right ones of the first k by k; ``r_at_k``, by the gold
    labels; ``ndcg_at_k``, binary gains discounted by log2(place + 1), by the best that is possible; with ``frequencies``
    ``psp_at_k`` (Jain et al. 2016, KDD), right ones weighted by 1 / propensity, by the best that is possible over all rows.
    Single-label with more than `MANY` labels: ``accuracy_at_k``, whether the right label is among the first k (3 and 5).

    Args:
        scores: ``[n, L]``.
        gold: int ``[n]`` or 0/1 ``[n, L]``.
        frequencies: of the labels in training.
    """
    n_labels = scores.shape[1]
    at = [k for k in AT if k <= n_labels]
    if task == "single":
        at = [k for k in at if k > 1 and n_labels > MANY]
        first = first_labels(scores, max(at, default=1))
        hits = np.cumsum(first == gold[:, None], axis=1)
        over = np.array([hits[:, k - 1] for k in at], dtype=np.float64).reshape(len(at), len(scores))
        return Ranked(tuple(f"accuracy_at_{k}" for k in at), over, np.ones_like(over))
    first = first_labels(scores, max(at))
    hits = np.take_along_axis(gold, first, axis=1).astype(np.float64)
    given = gold.sum(axis=1, dtype=np.float64)
    some = (given > 0).astype(np.float64)
    discount = 1 / np.log2(np.arange(2, max(at) + 2))
    best_gain = np.append(0.0, np.cumsum(discount))
    rows: dict[str, tuple[Floats, Floats]] = {}
    for k in at:
        rows[f"p_at_{k}"] = (hits[:, :k].sum(axis=1) / k, some)
        rows[f"r_at_{k}"] = (ratio(hits[:, :k].sum(axis=1), given), some)
        possible = best_gain[np.minimum(given, k).astype(np.int64)]
        rows[f"ndcg_at_{k}"] = (ratio(hits[:, :k] @ discount[:k], possible), some)
    if frequencies is not None:
        weight = frequencies.inverse_propensities
        best = _largest_of_gold(gold, weight, max(at))
        for k in at:
            rows[f"psp_at_{k}"] = ((hits * weight[first])[:, :k].sum(axis=1), best[:, :k].sum(axis=1))
    over, under = (np.stack([pair[i] for pair in rows.values()]) for i in (0, 1))
    return Ranked(tuple(rows), over, under)


def first_labels(scores: NDArray[Any], k: int) -> Ints:
    """The ``k`` labels with the highest scores of every row, best first, of equal ones the first: int64 ``[n, k]``."""
    n, n_labels = scores.shape
    if k >= n_labels or n == 0:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)
    edge = np.partition(scores, n_labels - k, axis=1)[:, n_labels - k, None]
    above = scores >= edge
    found = np.empty((n, k), np.int64)
    plain = above.sum(axis=1) == k
    found[plain] = np.nonzero(above[plain])[1].reshape(-1, k)
    for row in np.flatnonzero(~plain):  # ties at the edge
        better, level = np.flatnonzero(scores[row] > edge[row]), np.flatnonzero(scores[row] == edge[row])
        found[row] = np.sort(np.concatenate([better, level[: k - len(better)]]))
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _largest_of_gold(gold: NDArray[Any], weight: Floats, k: int) -> Floats:
    """The ``k`` largest weights among the gold labels of every row, 0 where there are fewer: ``[n, k]``."""
    rows, labels = np.nonzero(gold)
    order = np.lexsort((-weight[labels], rows))
    rows, labels = rows[order], labels[order]
    starts = np.searchsorted(rows, np.arange(len(gold)))
    place = np.arange(len(rows)) - starts[rows]
    found = np.zeros((len(gold), k))
    kept = place < k
    found[rows[kept], place[kept]] = weight[labels[kept]]
    return found
