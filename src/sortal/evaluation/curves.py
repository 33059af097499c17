"""Curves behind the figures: precision over recall, one threshold for all labels, accuracy over coverage.

Each is exact at the points it keeps; what is dropped are points between them, so that a plot stays small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.counts import f1, ratio
from sortal.evaluation.scores import Floats, Ints

POINTS = 60


@dataclass(frozen=True)
class PrecisionRecall:
    """One label against the rest: ``recall`` (rising) and ``precision``, each ``[m]``, and the average precision (NaN without positives)."""

    recall: Floats
    precision: Floats
    average: float


def precision_recall(probability: Floats, gold: NDArray[Any], points: int = POINTS) -> PrecisionRecall:
    """Precision at every recall that some threshold reaches, up to the first threshold that finds every positive.

    Args:
        probability: ``[n]``.
        gold: 0/1 ``[n]``.
        points: at most so many are kept, evenly over recall.
    """
    if gold.any():  # rows below every positive change no precision at any recall
        kept_rows = probability >= probability[gold.astype(bool)].min()
        probability, gold = probability[kept_rows], gold[kept_rows]
    order = np.argsort(-probability, kind="stable")
    ranked, found = probability[order], np.cumsum(gold[order], dtype=np.float64)
    if len(found) == 0 or found[-1] == 0:
        return PrecisionRecall(np.zeros(0), np.zeros(0), float("nan"))
    ends = np.flatnonzero(
        np.append(ranked[1:] != ranked[:-1], True)
    )  # rows of equal probability are one step
    recall, precision = found[ends] / found[-1], found[ends] / (ends + 1)
    average = float((np.diff(recall, prepend=0.0) * precision).sum())
    last = int(np.searchsorted(recall, 1.0))
    kept = _spread(recall[: last + 1], points)
    return PrecisionRecall(recall[kept], precision[kept], average)


def threshold_sweep(probabilities: Floats, gold: NDArray[Any], thresholds: Floats) -> dict[str, Floats]:
    """Micro precision, recall and f1 ``[t]`` if every label were given from the same threshold on.

    Args:
        probabilities: ``[n, L]``.
        gold: 0/1 ``[n, L]``.
        thresholds: ``[t]``.
    """
    positive = gold.ravel() == 1
    given = _at_least(probabilities.ravel(), thresholds)
    hits = _at_least(probabilities.ravel()[positive], thresholds)
    all_positive = np.full(len(thresholds), float(positive.sum()))
    return {
        "precision": ratio(hits, given, otherwise=np.nan),
        "recall": ratio(hits, all_positive),
        "f1": f1(hits, given, all_positive),
    }


def coverage_curve(probabilities: Floats, gold: Ints, points: int = POINTS) -> tuple[Floats, Floats]:
    """Accuracy of the most confident rows over the share of rows they are: (coverage, accuracy), coverage rising to 1.

    Args:
        probabilities: ``[n, L]`` of a single-label task.
        gold: int ``[n]``.
        points: at most so many are kept, evenly over coverage.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(probabilities.argmax(axis=1)[order] == gold[order], dtype=np.float64)
    ranked = confidence[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    coverage, accuracy = (ends + 1) / len(gold), right[ends] / (ends + 1)
    kept = _spread(coverage, points)
    return coverage[kept], accuracy[kept]


def _at_least(values: Floats, thresholds: Floats) -> Floats:
    return (len(values) - np.searchsorted(np.sort(values), thresholds, side="left")).astype(np.float64)


def _spread(rising: Floats, points: int) -> Ints:
    """Positions of at most ``points`` values, evenly over the range of a rising array, with its first and last."""
    if len(rising) <= points:
        return np.arange(len(rising))
    wanted = np.linspace(rising[0], rising[-1], points)
    return np.unique(np.searchsorted(rising, wanted).clip(0, len(rising) - 1))
