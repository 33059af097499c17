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
    p, positive = probabilities[np.ix_(rows, labels)].T, gold[np.ix_(rows, labels)].T == 1
    ranked = np.sort(p, axis=1)
    parts = []
    for label, every, own in zip(
        labels.tolist(), ranked, (p[k, positive[k]] for k in range(len(p))), strict=True
    ):
        own.sort()
        value = np.unique(own)[::-1]
        place = np.searchsorted(every, value)
        hits = np.append(0, len(own) - np.searchsorted(own, value))
        taken = np.append(0, len(every) - place)
        higher, lower = (
            np.append(1.0, value),
            np.append(every[-1], np.where(place > 0, every[place - 1], 0.0)),
        )
        parts.append(
            (
                np.full(len(hits), label),
                hits.astype(np.float64),
                taken.astype(np.float64),
                between(higher, lower),
            )
        )
    found = (np.concatenate(part) for part in zip(*parts, strict=True))
    return next(found), next(found), next(found), next(found)
