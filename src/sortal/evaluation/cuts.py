"""The cuts that can be a label's best threshold, found in one sort per label; memory grows with the positives, not with rows × labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.counts import ratio
from sortal.evaluation.scores import Floats, Ints

DEFAULT = 0.5
_BLOCK = 4_000_000  # probabilities sorted at a time
_TIE = 1e-12


@dataclass(frozen=True)
class LabelCuts:
    """Cuts right below a positive row, and for every label the one above all rows; flat, label by label, the highest first.

    Any other cut predicts more rows and finds no more positives, so no F1 is best there. Labels without positives have none.

    Attributes:
        label: of the cut.
        hits, taken: positives and rows at or above it.
        cut: the threshold, halfway to the next lower probability.
        positives: float64 ``[L]``.
    """

    label: Ints
    hits: Floats
    taken: Floats
    cut: Floats
    positives: Floats

    @classmethod
    def build(
        cls, probabilities: Floats, gold: NDArray[np.uint8], rows: NDArray[np.bool_] | None = None
    ) -> LabelCuts:
        """Of ``probabilities`` and ``gold`` ``[n, L]``, or of some of their rows."""
        chosen = np.arange(len(gold)) if rows is None else np.flatnonzero(rows)
        positives = gold.sum(axis=0, dtype=np.float64, where=True if rows is None else rows[:, None])
        with_some = np.flatnonzero(positives)
        width = max(1, _BLOCK // max(len(chosen), 1))
        blocks = [with_some[start : start + width] for start in range(0, len(with_some), width)]
        parts = [_cuts_of(probabilities, gold, chosen, labels) for labels in blocks]
        if not parts:
            nothing = np.zeros(0)
            return cls(nothing.astype(np.int64), nothing, nothing, nothing, positives)
        label, hits, taken, cut = (np.concatenate(found) for found in zip(*parts, strict=True))
        return cls(label, hits, taken, cut, positives)

    def macro(self) -> Floats:
        """Each label's own best F1: thresholds ``[L]``, `DEFAULT` for a label without positives."""
        return self._best(ratio(2 * self.hits, self.taken + self.positives[self.label]))[0]

    def micro(self) -> Floats:
        """The thresholds ``[L]`` that are best together for micro-F1.

        Micro F1 = 2·TP / (predicted + positives) is a ratio of sums over labels: Dinkelbach's method maximises
        2·TP − λ·predicted label by label and raises λ to the F1 reached, until it no longer grows.
        """
        reached, rate, total = -1.0, 0.0, float(self.positives.sum())
        thresholds = self._best(self.hits)[0]
        while rate > reached:
            reached = rate
            thresholds, chosen = self._best(2 * self.hits - rate * self.taken)
            rate = float(ratio(2 * self.hits[chosen].sum(), self.taken[chosen].sum() + total))
        return thresholds

    def _best(self, value: Floats) -> tuple[Floats, Ints]:
        """The cut with the highest value, of equal ones the nearest to 0.5: thresholds ``[L]``, and where each is."""
        thresholds = np.full(len(self.positives), DEFAULT)
        if not len(self.label):
            return thresholds, self.label
        starts = np.flatnonzero(np.diff(self.label, prepend=-1))
        lengths = np.diff(np.append(starts, len(self.label)))
        top = np.repeat(np.maximum.reduceat(value, starts), lengths)
        distance = np.where(value >= top - _TIE, np.abs(self.cut - DEFAULT), np.inf)
        nearest = np.flatnonzero(distance == np.repeat(np.minimum.reduceat(distance, starts), lengths))
        labels, first = np.unique(self.label[nearest], return_index=True)
        thresholds[labels] = self.cut[nearest[first]]
        return thresholds, nearest[first]


def between(higher: Floats, lower: Floats) -> Floats:
    """A threshold that separates two probabilities: their middle, or the higher where they are neighbouring floats."""
    middle = lower + (higher - lower) / 2
    return np.where(middle > lower, middle, higher)


def _cuts_of(
    probabilities: Floats, gold: NDArray[np.uint8], rows: Ints, labels: Ints
) -> tuple[Ints, Floats, Floats, Floats]:
    p = probabilities[np.ix_(rows, labels)].T
    order = np.argsort(-p, axis=1)
    p = np.take_along_axis(p, order, axis=1)
    hits = np.cumsum(np.take_along_axis(gold[np.ix_(rows, labels)].T, order, axis=1), axis=1, dtype=np.int32)
    # Ends of groups of equal probability; the first column stands for a cut above all rows.
    ends = np.concatenate([p[:, :-1] > p[:, 1:], np.ones((len(p), 1), np.bool_)], axis=1)
    which, place = np.nonzero(ends)
    before = np.where(np.diff(which, prepend=-1) != 0, 0, np.concatenate([[0], hits[which, place][:-1]]))
    kept = hits[which, place] > before
    which, place = which[kept], place[kept]
    following = np.where(place + 1 < p.shape[1], p[which, np.minimum(place + 1, p.shape[1] - 1)], 0.0)
    above = np.arange(len(p))
    label = np.concatenate([above, which])
    taken = np.concatenate([np.zeros(len(p)), place + 1.0])
    found = np.concatenate([np.zeros(len(p)), hits[which, place].astype(np.float64)])
    cut = np.concatenate([between(np.ones(len(p)), p[:, 0]), between(p[which, place], following)])
    sort = np.lexsort((taken, label))
    return labels[label[sort]], found[sort], taken[sort], cut[sort]
