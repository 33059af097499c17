"""Where classifiers fail: rows that every run misses, confident mistakes, and the metric on slices of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.comparison import MIN_ROWS
from sortal.evaluation.label_metrics import LabelMetrics
from sortal.evaluation.predictions import Predictions
from sortal.evaluation.scores import Floats
from sortal.evaluation.scripts import script

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
_FREQUENCIES = ((1, 5), (6, 20), (21, 100), (101, None))


@dataclass(frozen=True)
class Slice:
    """Some of the test rows and what each method reaches on them (the mean over its runs)."""

    name: str
    rows: int
    values: dict[str, float]


def wrong(run: Predictions) -> Bools:
    """Whether each row's answer is not exactly its gold labels, bool ``[n]``; an abstention is wrong."""
    unequal = (run.predicted != _gold(run)).reshape(len(run.ids), -1)
    missed: Bools = unequal.any(axis=1)
    return missed


def conviction(run: Predictions) -> Floats:
    """How far each row's probabilities are from its gold labels, float64 ``[n]`` in 0 … 1.

    Single-label: the largest probability of another label, less the gold label's, at least 0. Multi-label: the largest
    ``|p − gold|`` over labels.
    """
    gold, p = _gold(run), run.probabilities
    if gold.ndim == 2:
        off: Floats = np.abs(p - gold).max(axis=1)
        return off
    rows = np.arange(len(gold))
    others = p.copy()
    others[rows, gold] = -np.inf
    lead: Floats = (others.max(axis=1) - p[rows, gold]).clip(0.0)
    return lead


def missed_by_all(runs: Sequence[Predictions]) -> Ints:
    """Rows that every run has wrong, the ones they are surest about first: what to look at for wrong labels in the data."""
    if not runs:
        return np.zeros(0, np.int64)
    rows = np.flatnonzero(np.all([wrong(run) for run in runs], axis=0))
    sure = np.mean([conviction(run)[rows] for run in runs], axis=0)
    return rows[np.argsort(-sure, kind="stable")]


def confident_mistakes(run: Predictions) -> Ints:
    """Rows that one run has wrong, the surest first."""
    rows = np.flatnonzero(wrong(run))
    return rows[np.argsort(-conviction(run)[rows], kind="stable")]


def slices(
    methods: Mapping[str, Sequence[Predictions]], metric: str, texts: Sequence[str], label_counts: Ints
) -> list[Slice]:
    """The metric of every method on short, middling and long texts, on rows with rare and frequent labels, and on each script.

    Args:
        methods: name → predictions of its runs, all over the same rows.
        metric: of `LABEL_METRICS`.
        texts: the ``n`` test texts.
        label_counts: ``[L]``, training rows of each label; a row of several labels counts with its rarest one.
    """
    first = next(iter(methods.values()))[0]
    words = np.array([len(text.split()) for text in texts])
    cuts = _by_length(words) | _by_frequency(_gold(first), label_counts) | _by_script(texts)
    cuts = {name: rows for name, rows in cuts.items() if rows.any()}
    weights = np.stack([rows.astype(np.float64) for rows in cuts.values()], axis=1)
    values = {
        name: np.mean([_metric(run, metric, weights) for run in runs], axis=0)
        for name, runs in methods.items()
    }
    return [
        Slice(name, int(rows.sum()), {method: float(found[k]) for method, found in values.items()})
        for k, (name, rows) in enumerate(cuts.items())
    ]


def _metric(run: Predictions, metric: str, weights: Floats) -> Floats:
    measured = LabelMetrics.build(_gold(run), run.predicted, len(run.names), run.task)
    sums = measured.sums(weights * (measured.n / weights.sum(axis=0)))  # a share is taken of n rows
    _, predicted, gold = measured.counts(sums)
    # F1 macro of a slice is over the labels that occur in it.
    return measured.values(sums, predicted + gold > 0)[metric]


def _by_length(words: Ints) -> dict[str, Bools]:
    low, high = (int(q) for q in np.quantile(words, [1 / 3, 2 / 3]))
    return {
        f"up to {low:,} words": words <= low,
        f"{low + 1:,} to {high:,} words": (words > low) & (words <= high),
        f"over {high:,} words": words > high,
    }


def _by_frequency(gold: NDArray[Any], label_counts: Ints) -> dict[str, Bools]:
    if gold.ndim == 1:
        rarest, labelled = label_counts[gold], np.ones(len(gold), dtype=np.bool_)
    else:
        labelled = np.asarray(gold.any(axis=1))
        rarest = np.where(gold == 1, label_counts, label_counts.max(initial=0)).min(axis=1)
    found = {}
    for low, high in _FREQUENCIES:
        name = (
            f"label with over {low - 1} training rows"
            if high is None
            else f"label with {low}–{high} training rows"
        )
        found[name] = labelled & (rarest >= low) & (rarest <= (np.inf if high is None else high))
    return found if labelled.all() else {**found, "no label": ~labelled}


def _by_script(texts: Sequence[str]) -> dict[str, Bools]:
    """Scripts with enough rows to say something; nothing where all texts have one script."""
    scripts = np.array([script(text) for text in texts])
    frequent = [name for name, rows in Counter(scripts.tolist()).most_common() if name and rows >= MIN_ROWS]
    return {f"{name} script": scripts == name for name in frequent} if len(frequent) > 1 else {}


def _gold(run: Predictions) -> NDArray[Any]:
    if run.gold is None:
        raise ValueError("these predictions have no gold labels")
    return run.gold
