"""Quality of finished runs on IPC symbols by level of the tree and by how frequent labels are in training, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.counts import f1, ratio
from sortal.evaluation.frequency import BANDS
from sortal.evaluation.intervals import bootstrap, percentile_interval
from sortal.evaluation.label_metrics import LabelMetrics

_WIDTHS = {"section": 1, "class": 3, "subclass": 4, "group": None}  # characters of a symbol, None for all
_DEPTH = {"sections": 1, "classes": 2, "subclasses": 3, "groups": 4}
_RESAMPLES = 1000
Floats = NDArray[np.float64]


def level_f1(predictions: Any, task: str) -> dict[str, list[Any]]:
    """Micro-F1 of every level down to the task's own: [value, [low, high]].

    A patent has the sections, classes and subclasses that its labels lie in, and an answer likewise; with one label per row that is
    the accuracy.
    """
    gold, decided = _indicators(predictions)
    found = {}
    for level in list(_WIDTHS)[: _DEPTH[task]]:
        groups, of = np.unique([name[: _WIDTHS[level]] for name in predictions.names], return_inverse=True)
        within = np.zeros((len(of), len(groups)))
        within[np.arange(len(of)), of] = 1
        a, b = gold @ within > 0, decided @ within > 0
        both, given = (a & b).sum(1).astype(np.float64), (a.sum(1) + b.sum(1)).astype(np.float64)

        def statistic(weights: Floats, both: Floats = both, given: Floats = given) -> Floats:
            return ratio(2 * both @ weights, given @ weights)

        found[level] = _with_interval(statistic, len(a))
    return found


def band_f1(predictions: Any, of_label: list[int]) -> dict[str, list[Any]]:
    """Macro-F1 of the labels of every band of training rows: [labels, value, [low, high]]; a label without gold rows and answers is 0.

    As in `LabelMetrics.resampled`, a resample without any row of a label says nothing about it and leaves it out.
    """
    labels = LabelMetrics.build(
        predictions.gold, predictions.predicted, len(predictions.names), predictions.task
    )
    counts, found = np.array(of_label), {}
    for low, high, name in BANDS:
        within = (counts >= low) & (counts <= (np.inf if high is None else high))
        if not within.any():
            continue

        def statistic(weights: Floats, within: NDArray[np.bool_] = within) -> Floats:
            hits, predicted, gold = (part[within] for part in labels.counts(labels.sums(weights)))
            there = (predicted + gold > 0) | labels.absent[within, None]
            return ratio((f1(hits, predicted, gold) * there).sum(axis=0), there.sum(axis=0))

        found[name] = [int(within.sum()), *_with_interval(statistic, len(predictions.gold))]
    return found


def _indicators(predictions: Any) -> tuple[Floats, Floats]:
    """Gold labels and answers, 0/1 float64 ``[n, L]``; an abstained row has no answer."""
    if predictions.task == "multi":
        return predictions.gold.astype(np.float64), predictions.predicted.astype(np.float64)
    rows = np.arange(len(predictions.names))
    gold, decided = (
        (part[:, None] == rows).astype(np.float64) for part in (predictions.gold, predictions.predicted)
    )
    return gold, decided


def _with_interval(statistic: Callable[[Floats], Floats], n: int) -> list[Any]:
    """The value on all rows and its 95 % interval; ``statistic`` maps row counts ``[n, c]`` to ``[c]``."""
    drawn = bootstrap(lambda w: {"value": statistic(w)}, n, _RESAMPLES, 0)
    value = float(statistic(np.ones((n, 1)))[0])
    low, high = percentile_interval(drawn["value"]) or [value, value]
    return [value, [min(low, value), max(high, value)]]
