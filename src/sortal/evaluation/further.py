"""Figures for rows with one main label and further ones that are right too, as patents have codes.

The first three are those of automated patent classification (Fall, Törcsvári, Benzineb & Karetka 2003, "Automated categorization in
the international patent classification"): the main label is the first guess, it is among the first three, the first guess is any of the row's
labels. The preferential score looks at as many guesses as a row has labels and asks what share of them was found, where the main label
counts `MAIN_WEIGHT` times a further one, so that missing it costs more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.errors import ConfigError, DataError
from sortal.evaluation.clusters import Clusters, independent
from sortal.evaluation.intervals import bootstrap, percentile_interval, share_interval
from sortal.evaluation.scores import Floats, LabelNames, check_gold, check_scores

MAIN_WEIGHT = 2.0
FURTHER_METRICS = ("main_first", "main_in_three", "first_in_all", "preferential")
_ROWS = 4096


def evaluate_further(
    scores: NDArray[Any],
    gold: NDArray[Any],
    further: Sequence[Sequence[str]],
    label_space: LabelNames,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    clusters: Clusters | None = None,
) -> dict[str, Any]:
    """The four figures, their ``intervals``, and how many rows have further labels; JSON-ready.

    Guesses are labels by falling score, whatever a policy to abstain would answer; a label with −inf is no guess. Equal scores go by
    label order. A further label that the model does not know counts among the row's labels and is never found.

    Args:
        scores: ``[n, L]`` of a single-label task.
        gold: the main labels, int ``[n]``.
        further: names of the other right labels of each row; the main one among them counts once.
        label_space: names and task.
        n_resamples: bootstrap resamples; 0 leaves the intervals out.
        seed: of the resamples.
        clusters: of the rows, where they are drawn instead.

    Raises:
        ConfigError: a multi-label task. DataError: not one entry of ``further`` per row, or no rows.
    """
    refuse_multi(label_space)
    scores = check_scores(scores, "single")
    gold = check_gold(gold, len(scores), len(label_space.names), "single")
    if len(further) != len(scores) or not len(scores):
        raise DataError(
            f"{len(further):,} rows have further labels and {len(scores):,} have scores",
            "give one entry per row, and at least one row",
        )
    rows = row_figures(scores, gold, further, label_space.names)
    n = len(scores)
    point = {name: float(value) for name, value in zip(FURTHER_METRICS, rows.mean(axis=0), strict=True)}
    others = [set(names) - {label_space.names[main]} for names, main in zip(further, gold, strict=True)]
    return {
        **point,
        "rows_with_further_labels": sum(map(bool, others)),
        "intervals": _intervals(rows, point, n, n_resamples, seed, clusters),
    }


def refuse_multi(label_space: LabelNames) -> None:
    """Refuse a multi-label task, before anything is scored.

    Raises:
        ConfigError: it is one.
    """
    if label_space.task != "single":
        raise ConfigError(
            "further labels are for single-label tasks: a multi-label model is measured on all labels already",
            "leave out --also-label",
        )


def row_figures(
    scores: NDArray[Any], gold: NDArray[Any], further: Sequence[Sequence[str]], names: Sequence[str]
) -> Floats:
    """Values whose means are `FURTHER_METRICS`, float64 ``[n, 4]``."""
    index = {name: position for position, name in enumerate(names)}  # an unknown name stays a name
    figures = np.zeros((len(scores), len(FURTHER_METRICS)))
    for start in range(0, len(scores), _ROWS):
        block = scores[start : start + _ROWS]
        order = np.argsort(-block, axis=1, kind="stable")
        for offset, (ranked, row) in enumerate(zip(order, block, strict=True)):
            main = int(gold[start + offset])
            also: set[int | str] = {index.get(name, name) for name in further[start + offset]}
            also.discard(main)
            guesses = [int(label) for label in ranked[: max(3, 1 + len(also))] if row[label] > -np.inf]
            found = set(guesses[: 1 + len(also)])
            reached = MAIN_WEIGHT * (main in found) + len(also & found)
            figures[start + offset] = (
                guesses[0] == main,
                main in guesses[:3],
                guesses[0] == main or guesses[0] in also,
                reached / (MAIN_WEIGHT + len(also)),
            )
    return figures


def _intervals(
    rows: Floats, point: dict[str, float], n: int, n_resamples: int, seed: int, clusters: Clusters | None
) -> dict[str, list[float]]:
    if n_resamples < 1:
        return {}
    values = bootstrap(
        lambda weights: dict(zip(FURTHER_METRICS, rows.T @ weights / n, strict=True)),
        n,
        n_resamples,
        seed,
        clusters,
    )
    intervals = {}
    for name, estimate in point.items():
        if name == "preferential":
            interval = percentile_interval(values[name])
        else:
            interval = share_interval(values[name], estimate, independent(n, clusters))
        if interval is not None:
            intervals[name] = interval
    return intervals
