"""`evaluate`: scores and gold labels in, the content of ``metrics.json`` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.errors import DataError, ModelError
from sortal.evaluation.calibration import BinSums, Calibration, bin_sums
from sortal.evaluation.clusters import Clusters, independent
from sortal.evaluation.counts import f1, ratio
from sortal.evaluation.decision import ABSTAINED, Decision, coverage_rows
from sortal.evaluation.frequency import PROPENSITY_A, PROPENSITY_B, LabelFrequencies, bands
from sortal.evaluation.hierarchical import tree_figures
from sortal.evaluation.intervals import basic_interval, bootstrap, holding_interval, share_interval
from sortal.evaluation.label_metrics import SHARES, LabelMetrics
from sortal.evaluation.ranked import MANY, Ranked, ranked
from sortal.evaluation.ranking import Rankings
from sortal.evaluation.scores import Floats, LabelNames, Task, check_gold, check_scores, row_blocks

MAX_CONFUSIONS = 50
_RANKING_BUDGET = 600_000_000


def evaluate(
    scores: NDArray[Any],
    gold: NDArray[Any],
    decision: Decision,
    label_space: LabelNames,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    frequencies: LabelFrequencies | None = None,
    clusters: Clusters | None = None,
) -> dict[str, Any]:
    """Every figure of ``metrics.json``, JSON-ready.

    Single-label: accuracy, f1_micro, f1_macro, f1_weighted, ece, log_loss; with ``abstain_below`` also coverage and
    selective_accuracy (of the answered rows). **An abstained row counts as wrong** in accuracy and as a miss in recall.
    Multi-label: f1_micro, f1_macro, f1_weighted, f1_samples, subset_accuracy, map, ece, log_loss; p_at_k, r_at_k, ndcg_at_k and
    with ``frequencies`` psp_at_k (see `ranked`) and bands (macro-F1 by training rows). Single-label with many labels: accuracy_at_k.
    Labels in a tree: also h_precision, h_recall, h_f1, lca_distance and levels; see `tree_figures`.

    F1 averages are scikit-learn's over the whole label space with ``zero_division=0``: a label that occurs neither in
    gold nor in the predictions scores 0 (``labels_without_rows`` says how many there are), and so does a row that is
    rightly left without labels, in f1_samples (``rows_without_labels``). map is the mean of the average precisions of the labels with at least one gold row.
    log_loss is the mean −log p of the gold label, or of the right answer per row and label.

    Intervals are 95 % percentile bootstrap over rows; see ``interval_method`` in the result for what differs. They say how
    far the figure moves with the rows drawn. Where many labels have only a few rows, f1_macro itself is a low estimate
    of what more rows would show and its interval is too short: nothing in these rows can tell.

    Args:
        scores: ``[n, L]``, columns in ``label_space.names`` order; −inf allowed.
        gold: int ``[n]`` (single) or 0/1 ``[n, L]`` (multi).
        decision: fitted on dev.
        label_space: names and task.
        n_resamples: bootstrap resamples; 0 leaves the intervals out.
        seed: of the resamples.
        frequencies: of the labels in training.
        clusters: of the rows; intervals then draw these, and ``groups`` says how many they are.

    Raises:
        DataError: no rows, or gold that does not fit. ModelError: NaN scores, or a decision for other labels.
    """
    task, names = label_space.task, tuple(label_space.names)
    scores = check_scores(scores, task)
    _check_fit(scores, decision, task, len(names))
    gold = check_gold(gold, len(scores), len(names), task)
    rows = _rows(scores, gold, decision, frequencies)
    predicted = rows.predicted
    labels = LabelMetrics.build(gold, predicted, len(names), task)
    fit = Calibration.of(rows.bins, 1 if task == "single" else len(names))
    rankings = Rankings.build(scores, gold) if task == "multi" else None
    per_label = _per_label(labels, names, decision)
    result: dict[str, Any] = {"task": task, "n": len(scores), "n_labels": len(names)}
    if rankings is not None:
        for entry, value in zip(
            per_label, rankings.average_precision(np.ones((len(scores), 1))), strict=True
        ):
            entry["average_precision"] = _number(value[0])

    statistics = _statistics(rows.values, labels, fit, rankings, rows.ranked)
    point = {name: _number(values[0]) for name, values in statistics(np.ones((len(scores), 1)), True).items()}
    result.update(point)
    result["labels_without_rows"] = sum(1 for e in per_label if not e["support"] and not e["predicted"])
    if task == "multi":
        result["rows_without_labels"] = int((~gold.any(axis=1) & ~predicted.any(axis=1)).sum())
    result["intervals"], result["interval_method"] = _intervals(
        statistics, point, rankings, _shares(rows, task, clusters), len(scores), n_resamples, seed, clusters
    )
    if clusters is not None:
        result["groups"] = clusters.count
    if frequencies is not None and (task == "multi" or len(names) > MANY):
        of_label = [np.array([entry[key] for entry in per_label]) for key in ("support", "f1")]
        result["bands"] = bands(frequencies, *of_label)
        result["propensity"] = {"a": PROPENSITY_A, "b": PROPENSITY_B}
    if decision.tree is not None:
        figures = tree_figures(
            gold,
            predicted,
            names,
            task,
            decision.tree,
            n_resamples=n_resamples,
            seed=seed,
            clusters=clusters,
        )
        result |= figures.headlines
        result["intervals"] |= figures.intervals
        result["levels"] = figures.levels
    result["per_label"] = per_label
    result["calibration_bins"] = fit.bins
    if task == "single":
        result["confusions"] = _confusions(gold, predicted, names)
        result["coverage_table"] = coverage_rows(rows.confidence, rows.right)
        result["abstain_below"] = decision.abstain_below
    return result


def _check_fit(scores: NDArray[Any], decision: Decision, task: Task, n_labels: int) -> None:
    if scores.shape[1] != n_labels:
        raise ModelError(
            f"scores have shape {scores.shape}, the label space has {n_labels} labels",
            "give one column per label",
        )
    if len(scores) == 0:
        raise DataError("there are no rows to evaluate", "give at least one labelled row")
    if decision.task != task:
        raise ModelError(
            f"the decision is for a {decision.task}-label task, the labels are {task}-label",
            "use the model's own sortal.json",
        )


@dataclass(frozen=True)
class _Rows:
    """What is kept of every row; the tables of probabilities it comes from are made a block at a time.

    values: ``[n]`` each, whose mean is the metric. confidence, right: of the best label, single-label.
    """

    predicted: NDArray[Any]
    values: dict[str, Floats]
    confidence: Floats
    right: NDArray[np.bool_]
    bins: list[BinSums]
    ranked: Ranked


def _rows(
    scores: NDArray[Any], gold: NDArray[Any], decision: Decision, frequencies: LabelFrequencies | None
) -> _Rows:
    blocks = []
    for block in row_blocks(np.arange(len(scores)), scores.shape[1]):
        part = slice(int(block[0]), int(block[-1]) + 1)
        probabilities, right = decision.probabilities(scores[part]), gold[part]
        predicted = decision.decide(probabilities)
        best = probabilities.argmax(axis=1) if decision.task == "single" else np.zeros(0, np.int64)
        blocks.append(
            _Rows(
                predicted,
                _row_values(probabilities, right, predicted, decision),
                probabilities.max(axis=1),
                best == right if decision.task == "single" else np.zeros(0, np.bool_),
                [bin_sums(probabilities, right, decision.task)],
                ranked(scores[part], right, decision.task, frequencies),
            )
        )
    return _Rows(
        np.concatenate([block.predicted for block in blocks]),
        {name: np.concatenate([block.values[name] for block in blocks]) for name in blocks[0].values},
        np.concatenate([block.confidence for block in blocks]),
        np.concatenate([block.right for block in blocks]),
        [sums for block in blocks for sums in block.bins],
        Ranked.joined([block.ranked for block in blocks]),
    )


def _row_values(
    probabilities: Floats, gold: NDArray[Any], predicted: NDArray[Any], decision: Decision
) -> dict[str, Floats]:
    """Per-row values ``[n]`` beside those of `LabelMetrics`, whose mean is the metric."""
    eps = float(
        np.finfo(np.float64).eps
    )  # scikit-learn's clip: a probability of 0 costs 36 nats, not infinity
    if decision.task == "single":
        of_gold = probabilities[np.arange(len(gold)), gold]
        values = {"log_loss": -np.log(np.clip(of_gold, eps, 1))}
        if decision.abstain_below is not None:
            values["coverage"] = predicted != ABSTAINED
    else:
        right = np.where(gold, probabilities, 1 - probabilities)
        np.log(np.clip(right, eps, 1, out=right), out=right)
        values = {"log_loss": -right.mean(axis=1)}
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}


def _statistics(
    rows: dict[str, Floats], labels: LabelMetrics, fit: Calibration, rankings: Rankings | None, top: Ranked
) -> Callable[[Floats, bool], dict[str, Floats]]:
    """Metrics ``[c]`` as a function of row counts ``[n, c]`` (each column sums to n) and of whether to rank."""
    stacked = np.stack(list(rows.values()))
    n = labels.n

    def statistics(weights: Floats, with_ranking: bool) -> dict[str, Floats]:
        means = dict(zip(rows, stacked @ weights / n, strict=True))
        result = labels.resampled(weights)
        if rankings is not None and with_ranking:
            result["map"] = rankings.mean_average_precision(weights)
        if "coverage" in means:
            coverage = means["coverage"]
            result["coverage"] = coverage
            result["selective_accuracy"] = ratio(result["accuracy"], coverage, otherwise=np.nan)
        result["ece"] = np.abs(fit.gaps.T @ weights).sum(axis=0) / (n * fit.per_row)
        result["log_loss"] = means["log_loss"]
        return result | top.values(weights)

    return statistics


def _shares(rows: _Rows, task: Task, clusters: Clusters | None) -> dict[str, int]:
    """The figures that are shares of rows, and of how many independent ones."""
    n = independent(len(rows.predicted), clusters)
    if task == "multi":
        return dict.fromkeys((*SHARES[task], "p_at_1"), n)  # whether the first label is right
    answered = int((rows.predicted != ABSTAINED).sum())
    return {
        **dict.fromkeys((*SHARES[task], "coverage", *rows.ranked.names), n),
        "selective_accuracy": min(n, answered),
    }


def _intervals(
    statistics: Callable[[Floats, bool], dict[str, Floats]],
    point: dict[str, float | None],
    rankings: Rankings | None,
    shares: dict[str, int],
    n: int,
    n_resamples: int,
    seed: int,
    clusters: Clusters | None,
) -> tuple[dict[str, list[float]], str]:
    if n_resamples < 1:
        return {}, "none: no resamples were asked for"
    values = bootstrap(lambda weights: statistics(weights, False), n, n_resamples, seed, clusters)
    drawn = "rows" if clusters is None else f"the {clusters.count:,} groups of rows"
    method = (
        f"95 % percentile bootstrap over {drawn}, {n_resamples} resamples, seed {seed}; a label that a resample misses is "
        "left out of that resample's f1_macro and map; widened to hold the estimate; ece: basic (mirrored) bootstrap, widened alike"
    )
    if rankings is not None:
        ranked = min(n_resamples, max(100, _RANKING_BUDGET // max(rankings.work, 1)))
        values |= bootstrap(
            lambda weights: {"map": rankings.mean_average_precision(weights)}, n, ranked, seed, clusters
        )
        method += f"; map: the first {ranked} resamples" if ranked < n_resamples else ""
    intervals: dict[str, list[float]] = {}
    for name, estimate in point.items():
        if estimate is None:
            continue
        interval: list[float] | None
        if name in shares:
            interval = share_interval(values[name], estimate, shares[name])
            method += f"; {name}: Clopper–Pearson, because all rows agree" * (estimate in (0.0, 1.0))
        elif name == "ece":
            interval = basic_interval(values[name], estimate)
        else:
            interval = holding_interval(values[name], estimate)
        if interval is not None:
            intervals[name] = interval
        else:
            method += f"; {name}: none, because all resamples agree"
    return intervals, method


def _per_label(labels: LabelMetrics, names: tuple[str, ...], decision: Decision) -> list[dict[str, Any]]:
    hits, predicted, gold = (c[:, 0] for c in labels.counts(labels.sums(np.ones((labels.n, 1)))))
    precision, recall, both = ratio(hits, predicted), ratio(hits, gold), f1(hits, predicted, gold)
    thresholds: list[float | None] = [None] * len(names)
    if decision.task == "multi":
        thresholds = list(decision.thresholds or [0.5] * len(names))
    return [
        {
            "label": name,
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(both[k]),
            "support": int(gold[k]),
            "predicted": int(predicted[k]),
            "threshold": thresholds[k],
        }
        for k, name in enumerate(names)
    ]


def _confusions(gold: NDArray[Any], predicted: NDArray[Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The most frequent wrong (gold, predicted) pairs, abstentions left out."""
    wrong = (gold != predicted) & (predicted != ABSTAINED)
    pairs, counts = np.unique(gold[wrong] * len(names) + predicted[wrong], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CONFUSIONS]
    return [
        {
            "gold": names[pairs[k] // len(names)],
            "predicted": names[pairs[k] % len(names)],
            "count": int(counts[k]),
        }
        for k in order
    ]


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
