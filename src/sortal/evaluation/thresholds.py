"""Multi-label thresholds on probabilities, tuned on dev for micro or macro F1.

All searches are exact over the midpoints between neighbouring probabilities and run on sorted arrays: one sort of the
``n × L`` probabilities, then linear passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.counts import f1
from sortal.evaluation.scores import Floats, check_gold

Mode = Literal["auto", "global", "per_label", "none"]
ThresholdMetric = Literal["f1_macro", "f1_micro"]

DEFAULT = 0.5
SHRINKAGE = 10.0
N_FOLDS = 5


def tune_thresholds(
    probabilities: Floats,
    gold: NDArray[Any],
    *,
    mode: Mode = "auto",
    metric: ThresholdMetric = "f1_macro",
    seed: int = 0,
) -> Floats:
    """Thresholds float64 ``[L]`` in [0, 1]; a label is given when its probability is at least its threshold.

    ``none``: 0.5. ``global``: the one threshold with the best ``metric`` on dev. ``per_label``: each label's own best
    threshold, drawn on the logit scale towards the global one with weight ``n_pos / (n_pos + 10)``, so that a label
    seen twice in dev hardly moves and one seen a hundred times nearly takes its own. ``auto``: ``global`` or
    ``per_label``, whichever has the better ``metric`` on held-out rows of a seeded 5-fold split of dev; ties and dev
    sets of fewer than 10 rows go to ``global``.

    Args:
        probabilities: float64 ``[n, L]``.
        gold: 0/1 ``[n, L]``.
        mode: see above.
        metric: F1 averaged over all labels, or pooled over them.
        seed: of the folds of ``auto``.

    Raises:
        DataError: gold does not fit the probabilities.
    """
    n, n_labels = probabilities.shape
    gold = check_gold(gold, n, n_labels, "multi")
    if mode == "none" or not gold.any():
        return np.full(n_labels, DEFAULT)
    pairs = _Pairs.ranked(probabilities, gold)
    if mode == "auto":
        mode = _cross_validated_mode(pairs, probabilities, gold, metric, seed)
    if mode == "global":
        return np.full(n_labels, _global(pairs, metric))
    return _per_label(pairs, metric, _global(pairs, metric))


@dataclass(frozen=True)
class _Pairs:
    """Every (row, label) pair, most probable first; flat arrays of equal length."""

    probability: Floats
    label: NDArray[np.uint32]
    row: NDArray[np.int32]
    gold: NDArray[np.uint8]
    n_labels: int

    @classmethod
    def ranked(cls, probabilities: Floats, gold: NDArray[np.uint8]) -> _Pairs:
        flat = probabilities.ravel()
        order = np.argsort(flat)[::-1]
        row, label = np.divmod(order, probabilities.shape[1])
        return cls(
            flat[order],
            label.astype(np.uint32),
            row.astype(np.int32),
            gold.ravel()[order],
            probabilities.shape[1],
        )

    def where(self, rows: NDArray[np.bool_]) -> _Pairs:
        keep = rows[self.row]
        return _Pairs(
            self.probability[keep], self.label[keep], self.row[keep], self.gold[keep], self.n_labels
        )

    def by_label(self) -> NDArray[np.int64]:
        """Positions ``[L, n]`` of each label's pairs, most probable first; every row has every label."""
        # A stable sort of 16-bit keys is a radix sort: linear.
        key = self.label.astype(np.uint16) if self.n_labels < 2**16 else self.label
        return np.argsort(key, kind="stable").reshape(self.n_labels, -1)


def _cuts(probability: Floats, nothing_above: float = 0.0) -> tuple[NDArray[np.bool_], Floats]:
    """For descending ``[…, m]``: whether a cut after each position separates values, and the threshold that makes it."""
    following = np.concatenate(
        [probability[..., 1:], np.full((*probability.shape[:-1], 1), nothing_above)], axis=-1
    )
    middle = following + (probability - following) / 2
    middle = np.where(middle > following, middle, probability)  # neighbouring floats have no midpoint
    possible = probability > following
    possible[..., -1] = True
    return possible, middle


def _best(value: Floats, possible: NDArray[np.bool_], cut: Floats) -> Floats:
    """The cut ``[…]`` with the highest value; of equal ones the nearest to 0.5."""
    value = np.where(possible, value, -np.inf)
    top = value.max(axis=-1, keepdims=True)
    distance = np.where(value >= top - 1e-12, np.abs(cut - DEFAULT), np.inf)
    return np.take_along_axis(cut, distance.argmin(axis=-1)[..., None], axis=-1)[..., 0]


def _global(pairs: _Pairs, metric: ThresholdMetric) -> float:
    m = len(pairs.probability)
    if not pairs.gold.any():
        return DEFAULT
    if metric == "f1_micro":
        hits = np.cumsum(pairs.gold, dtype=np.float64)
        value = 2 * hits / (np.arange(1, m + 1) + hits[-1])
    else:
        # Lowering the cut past one pair changes the F1 of that pair's label only: add up those changes in global order.
        order = pairs.by_label()
        own = _f1_at_each_cut(pairs.gold[order])
        change = np.empty(m)
        change[order] = np.diff(own, axis=1, prepend=0.0)
        value = np.cumsum(change) / pairs.n_labels
    possible, cut = _cuts(pairs.probability)
    return float(_best(value, possible, cut))


def _f1_at_each_cut(gold: NDArray[np.uint8]) -> Floats:
    hits = np.cumsum(gold, axis=1, dtype=np.float64)
    return np.asarray(2 * hits / (np.arange(1, gold.shape[1] + 1) + hits[:, -1:]))


def _per_label(pairs: _Pairs, metric: ThresholdMetric, shared: float) -> Floats:
    from scipy.special import expit, logit

    order = pairs.by_label()
    gold, probability = pairs.gold[order], pairs.probability[order]
    n_pos = gold.sum(axis=1, dtype=np.float64)
    own = _own_macro(gold, probability) if metric == "f1_macro" else _own_micro(gold, probability)
    weight = n_pos / (n_pos + SHRINKAGE)
    tiny = 1e-12
    mixed = weight * logit(np.clip(own, tiny, 1 - tiny)) + (1 - weight) * logit(
        np.clip(shared, tiny, 1 - tiny)
    )
    return np.where(n_pos > 0, expit(mixed), shared)


def _own_macro(gold: NDArray[np.uint8], probability: Floats) -> Floats:
    possible, cut = _cuts(probability)
    return _best(_f1_at_each_cut(gold), possible, cut)


def _own_micro(gold: NDArray[np.uint8], probability: Floats) -> Floats:
    # Micro F1 = 2·TP / (predicted + positives) is a ratio of sums over labels: Dinkelbach's method maximises
    # 2·TP − λ·predicted label by label and raises λ to the F1 reached, until it no longer grows.
    never = np.concatenate([np.ones((len(probability), 1)), probability], axis=1)
    possible, cut = _cuts(never)
    hits = np.concatenate([np.zeros((len(gold), 1)), np.cumsum(gold, axis=1, dtype=np.float64)], axis=1)
    taken = np.arange(hits.shape[1])
    positives, reached = float(gold.sum()), -1.0
    thresholds = np.full(len(gold), DEFAULT)
    rate = 0.0
    while rate > reached:
        reached = rate
        thresholds = _best(2 * hits - rate * taken, possible, cut)
        predicted = probability >= thresholds[:, None]
        rate = float(2 * gold[predicted].sum(dtype=np.float64) / (predicted.sum() + positives))
    return thresholds


def _cross_validated_mode(
    pairs: _Pairs, probabilities: Floats, gold: NDArray[np.uint8], metric: ThresholdMetric, seed: int
) -> Literal["global", "per_label"]:
    n, n_labels = probabilities.shape
    if n < 2 * N_FOLDS:
        return "global"
    fold = np.random.default_rng(seed).permutation(n) % N_FOLDS
    hits = np.zeros((2, n_labels))
    predicted = np.zeros((2, n_labels))
    for k in range(N_FOLDS):
        held_out = fold == k
        fitted = pairs.where(~held_out)
        p, y = probabilities[held_out], gold[held_out].astype(bool)
        shared_cut = _global(fitted, metric)
        for which, thresholds in enumerate((shared_cut, _per_label(fitted, metric, shared_cut))):
            given = p >= thresholds
            hits[which] += (given & y).sum(axis=0)
            predicted[which] += given.sum(axis=0)
    # Counts are pooled over the folds, so that a label with three positives is not averaged over empty folds.
    positives = gold.sum(axis=0, dtype=np.float64)
    if metric == "f1_micro":
        shared, own = 2 * hits.sum(axis=1) / (predicted.sum(axis=1) + positives.sum())
    else:
        shared, own = (float(f1(hits[which], predicted[which], positives).mean()) for which in (0, 1))
    return "per_label" if own > shared else "global"
