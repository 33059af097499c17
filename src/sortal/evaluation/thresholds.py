"""Multi-label thresholds on probabilities, tuned on dev for micro or macro F1.

All searches are exact over the midpoints between neighbouring probabilities and run on sorted arrays. Where rows × labels are
many, a count on a coarse grid first leaves out the probabilities that are too low for any best cut (`search_floor`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.counts import f1
from sortal.evaluation.cuts import DEFAULT, LabelCuts, between
from sortal.evaluation.floor import ThresholdMetric, search_floor
from sortal.evaluation.scores import Floats, Ints, check_gold, row_blocks

Mode = Literal["auto", "global", "per_label", "none"]

SHRINKAGE = 10.0
N_FOLDS = 5
FEW_ROWS = 20  # of dev: the best cut of fewer is a matter of one row (benchmarks/results/small_thresholds.md)


def tune_thresholds(
    probabilities: Floats,
    gold: NDArray[Any],
    *,
    mode: Mode = "auto",
    metric: ThresholdMetric = "f1_macro",
    seed: int = 0,
    shrinkage: float = SHRINKAGE,
) -> Floats:
    """Thresholds float64 ``[L]`` in [0, 1]; a label is given when its probability is at least its threshold.

    ``none``: 0.5. ``global``: the one threshold with the best ``metric`` on dev. ``per_label``: each label's own best
    threshold, drawn on the logit scale towards the global one with weight ``n_pos / (n_pos + 10)``, so that a label
    seen twice in dev hardly moves and one seen a hundred times nearly takes its own. ``auto``: ``global`` or
    ``per_label``, whichever has the better ``metric`` on held-out rows of a seeded 5-fold split of dev; ties and dev
    sets of fewer than 10 rows go to ``global``. With fewer than 20 rows the global threshold is itself drawn towards 0.5, as
    the labels' own are towards it, by the number of positives of all labels.

    Args:
        probabilities: float64 ``[n, L]``.
        gold: 0/1 ``[n, L]``.
        mode: see above.
        metric: F1 averaged over all labels, or pooled over them.
        seed: of the folds of ``auto``.
        shrinkage: positive rows of a label at which its own threshold and the global one weigh the same, and of all labels at which the global one of
            few rows and 0.5 do; 0: none.

    Raises:
        DataError: gold does not fit the probabilities.
    """
    n, n_labels = probabilities.shape
    gold = check_gold(gold, n, n_labels, "multi")
    if mode == "none" or not gold.any():
        return np.full(n_labels, DEFAULT)
    fold = np.random.default_rng(seed).permutation(n) % N_FOLDS
    pairs = _Pairs.ranked(probabilities, gold, search_floor(probabilities, gold, fold, metric))
    if mode == "auto":
        mode = _cross_validated_mode(pairs, probabilities, gold, metric, fold, shrinkage)
    shared = _shared(pairs, metric, gold.sum(axis=0, dtype=np.float64), n, shrinkage)
    if mode == "global":
        return np.full(n_labels, shared)
    return _per_label(LabelCuts.build(probabilities, gold), metric, shared, shrinkage)


@dataclass(frozen=True)
class _Pairs:
    """Every (row, label) pair, most probable first; flat arrays of equal length."""

    probability: Floats
    label: NDArray[np.uint32]
    row: NDArray[np.int32]
    gold: NDArray[np.uint8]
    n_labels: int

    @classmethod
    def ranked(cls, probabilities: Floats, gold: NDArray[np.uint8], floor: float = 0.0) -> _Pairs:
        """The pairs of ``[n, L]`` with a probability of at least ``floor``."""
        flat = probabilities.ravel()
        kept = None if floor <= 0 else np.flatnonzero(flat >= floor)
        order = np.argsort(flat if kept is None else flat[kept])[::-1]
        if kept is not None:
            order = kept[order]
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

    def by_label(self) -> tuple[Ints, Ints, Ints]:
        """Positions of the pairs label by label, most probable first; where each label with pairs begins, and how many it has."""
        # A stable sort of 16-bit keys is a radix sort: linear.
        key = self.label.astype(np.uint16) if self.n_labels < 2**16 else self.label
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order].astype(np.int64), prepend=-1))
        return order, starts, np.diff(np.append(starts, len(order)))


def _cuts(probability: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """For descending ``[m]``: whether a cut after each position separates values, and the threshold that makes it."""
    following = np.append(probability[1:], 0.0)
    possible = probability > following
    possible[-1] = True
    return possible, between(probability, following)


def _best(value: Floats, possible: NDArray[np.bool_], cut: Floats) -> float:
    """The cut with the highest value; of equal ones the nearest to 0.5."""
    value = np.where(possible, value, -np.inf)
    distance = np.where(value >= value.max() - 1e-12, np.abs(cut - DEFAULT), np.inf)
    return float(cut[distance.argmin()])


def _global(pairs: _Pairs, metric: ThresholdMetric, positives: Floats) -> float:
    if not positives.any():
        return DEFAULT
    if metric == "f1_micro":
        hits = np.cumsum(pairs.gold, dtype=np.float64)
        value = 2 * hits / (np.arange(1, len(hits) + 1) + positives.sum())
    else:
        # Lowering the cut past one pair changes the F1 of that pair's label only: add up those changes in global order.
        order, starts, lengths = pairs.by_label()
        hits = np.cumsum(pairs.gold[order], dtype=np.float64)
        before = np.repeat(np.append(0.0, hits)[starts], lengths)
        taken = np.arange(1, len(order) + 1) - np.repeat(starts, lengths)
        own = 2 * (hits - before) / (taken + positives[pairs.label[order]])
        change = np.empty(len(order))
        previous = np.append(0.0, own[:-1])
        previous[starts] = 0.0
        change[order] = own - previous
        value = np.cumsum(change) / pairs.n_labels
    possible, cut = _cuts(pairs.probability)
    return _best(value, possible, cut)


def _shared(pairs: _Pairs, metric: ThresholdMetric, positives: Floats, rows: int, shrinkage: float) -> float:
    """The best threshold for all labels; of a handful of dev ``rows``, drawn towards 0.5."""
    found = _global(pairs, metric, positives)
    if rows >= FEW_ROWS or not shrinkage:
        return found
    return float(_drawn(np.array(found), DEFAULT, positives.sum(), shrinkage))


def _drawn(own: Floats, towards: float, positives: Floats, shrinkage: float) -> Floats:
    """``own`` thresholds drawn to another on the logit scale: they weigh ``positives / (positives + shrinkage)``."""
    from scipy.special import expit, logit

    weight = positives / np.maximum(positives + shrinkage, 1e-9)
    tiny = 1e-12
    a, b = (logit(np.clip(each, tiny, 1 - tiny)) for each in (own, towards))
    mixed: Floats = expit(weight * a + (1 - weight) * b)
    return mixed


def _per_label(cuts: LabelCuts, metric: ThresholdMetric, shared: float, shrinkage: float) -> Floats:
    own = cuts.macro() if metric == "f1_macro" else cuts.micro()
    return np.where(cuts.positives > 0, _drawn(own, shared, cuts.positives, shrinkage), shared)


def _cross_validated_mode(
    pairs: _Pairs,
    probabilities: Floats,
    gold: NDArray[np.uint8],
    metric: ThresholdMetric,
    fold: NDArray[np.int64],
    shrinkage: float,
) -> Literal["global", "per_label"]:
    n, n_labels = probabilities.shape
    if n < 2 * N_FOLDS:
        return "global"
    hits = np.zeros((2, n_labels))
    predicted = np.zeros((2, n_labels))
    for k in range(N_FOLDS):
        held_out = fold == k
        fitted = LabelCuts.build(probabilities, gold, ~held_out)
        shared_cut = _shared(pairs.where(~held_out), metric, fitted.positives, n, shrinkage)
        own_cuts = _per_label(fitted, metric, shared_cut, shrinkage)
        for rows in row_blocks(np.flatnonzero(held_out), n_labels):
            p, y = probabilities[rows], gold[rows].astype(bool)
            for which, thresholds in enumerate((np.full(n_labels, shared_cut), own_cuts)):
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
