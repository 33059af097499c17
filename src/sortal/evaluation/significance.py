"""`compare_pairs`: which of several methods is better on the same test rows, and which difference is only chance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from sortal.errors import ConfigError, DataError
from sortal.evaluation.clusters import Clusters, independent
from sortal.evaluation.comparison import MIN_ROWS, PairComparison
from sortal.evaluation.holm import holm
from sortal.evaluation.intervals import percentile_interval, unanimous_interval
from sortal.evaluation.label_metrics import LABEL_METRICS, LabelMetrics
from sortal.evaluation.mcnemar import mcnemar
from sortal.evaluation.paired import (
    difference_p,
    randomisation_p,
    resample_runs,
    resampled_difference,
    run_values,
)
from sortal.evaluation.power import (
    power_note,
    power_sentence,
    smallest_difference,
    smallest_difference_within,
)
from sortal.evaluation.predictions import Predictions
from sortal.evaluation.scores import Floats

FEW_ROWS = 5
OF_SEEDS = ("one training run of", "two training runs of")  # how a pair's notes about seeds begin
_SHARES = ("accuracy", "subset_accuracy")


def compare_pairs(
    methods: Mapping[str, Sequence[Predictions]],
    metric: str,
    *,
    n_resamples: int = 2000,
    n_rounds: int = 10_000,
    seed: int = 0,
    seedless: Collection[str] = (),
) -> list[PairComparison]:
    """Compare every two methods by one metric, on the same test rows.

    Where rows fall into groups, these are drawn, and their answers exchanged, as wholes. Accuracy of one run each, with rows that stand alone, is tested with McNemar's mid-p, any other metric with the paired randomisation test. With
    several runs of a method, p is the larger of the randomisation test over rows and the bootstrap over rows and seeds:
    a winner has to be beyond the chance of both. With one run each, seeds are part of no figure, and ``notes`` says so.

    Intervals are 95 % percentile bootstrap over rows, widened for seeds (see `resampled_difference`). Simulated over
    rows, they cover 94–96 % for accuracy, f1_micro and f1_macro; for f1_macro with many rare labels (77 labels, Zipf, 300
    rows) only 87 %, because the metric itself is then off: ``notes`` says so. The randomisation test keeps its level there.

    Args:
        methods: name → predictions of its training runs (different seeds, same rows), one or more.
        metric: one of `LABEL_METRICS` for the task.
        n_resamples: bootstrap resamples.
        n_rounds: rounds of the randomisation test.
        seed: of both.
        seedless: methods that every seed trains alike; one run of them is all there is.

    Returns:
        One result per pair, in the order of ``methods``. With fewer than 30 rows, or groups, each says that they are too few, and has
        neither interval nor p-value.

    Raises:
        ConfigError: fewer than two methods, a method without runs, an unknown metric, or no resamples or rounds.
        DataError: runs without gold labels, or of different rows or labels.
    """
    _check_settings(methods, n_resamples, n_rounds)
    n, clusters = _check_rows(methods, metric)
    enough = independent(n, clusters) >= MIN_ROWS
    resamples = n_resamples if enough else 0
    measured = [
        _Method.build(name, runs, metric, resamples, seed, name in seedless, clusters)
        for name, runs in methods.items()
    ]
    pairs = []
    for a, b in combinations(measured, 2):
        pair = PairComparison(
            a.name, b.name, metric, n, len(a.systems), len(b.systems),
            float(a.points.mean()), float(b.points.mean()), float(a.points.mean() - b.points.mean()),
            groups=None if clusters is None else clusters.count,
        )  # fmt: skip
        pairs.append(_tested(pair, a, b, n_rounds, seed, clusters) if enough else pair)
    if not enough:
        return pairs
    corrected = holm([pair.p for pair in pairs if pair.p is not None])
    return [replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True)]


@dataclass(frozen=True)
class _Method:
    """One method's runs, measured: points ``[S]``, resampled ``[S, R]``, right ``[n]`` (share of runs that are)."""

    name: str
    systems: list[LabelMetrics]
    points: Floats
    resampled: Floats
    right: Floats
    rare: int
    seedless: bool

    @classmethod
    def build(
        cls,
        name: str,
        runs: Sequence[Predictions],
        metric: str,
        n_resamples: int,
        seed: int,
        seedless: bool,
        clusters: Clusters | None,
    ) -> _Method:
        golds = [(run, _gold(run)) for run in runs]
        systems = [LabelMetrics.build(gold, run.predicted, len(run.names), run.task) for run, gold in golds]
        right = np.mean([_right(run.predicted, gold) for run, gold in golds], axis=0)
        points = run_values(systems, metric)
        resampled = points[:, None]
        if n_resamples:
            resampled = resample_runs(systems, metric, n_resamples, seed, clusters)
        support = systems[0].counts(systems[0].sums(np.ones((systems[0].n, 1))))[2]
        return cls(name, systems, points, resampled, right, int((support < FEW_ROWS).sum()), seedless)


def _tested(
    pair: PairComparison, a: _Method, b: _Method, n_rounds: int, seed: int, clusters: Clusters | None
) -> PairComparison:
    draws = resampled_difference((a.points, a.resampled), (b.points, b.resampled), seed)
    interval = _interval(draws, pair.metric in _SHARES, independent(pair.n, clusters))
    pair = replace(pair, interval=interval, notes=_notes(pair, a, b, interval))
    if pair.metric in _SHARES and pair.runs_a == pair.runs_b == 1 and clusters is None:
        result = mcnemar(a.right, b.right)
        discordance = (result.b + result.c) / pair.n
        return replace(
            pair,
            test="McNemar's test, mid-p",
            p=result.p,
            mcnemar=result,
            smallest_difference=smallest_difference(pair.n, discordance),
            power=power_note(pair.n, discordance, pair.metric),
        )
    if interval is not None:
        smallest = smallest_difference_within(interval)
        basis = "from the width of the interval"
        pair = replace(
            pair, smallest_difference=smallest, power=power_sentence(pair.n, pair.metric, smallest, basis)
        )
    p = randomisation_p(a.systems, b.systems, pair.metric, n_rounds, seed, clusters)
    drawn = "rows" if clusters is None else "groups"
    test = (
        f"paired randomisation test{' over groups' * (clusters is not None)}, {n_rounds} rounds, seed {seed}"
    )
    if pair.runs_a == pair.runs_b == 1:
        return replace(pair, test=test, p=p)
    return replace(
        pair,
        test=f"the larger p of: {test}; bootstrap over {drawn} and seeds, {len(draws)} resamples, seed {seed}",
        p=max(p, difference_p((a.points, a.resampled), (b.points, b.resampled))),
    )


def _interval(draws: Floats, share: bool, n: int) -> list[float] | None:
    if draws.min() < draws.max():
        return percentile_interval(draws)
    if share and draws[0] == 0:
        # No row of n is right in exactly one of the two: resampling would claim that none ever is.
        bound = unanimous_interval(False, n)[1]
        return [-bound, bound]
    return None


def _notes(pair: PairComparison, a: _Method, b: _Method, interval: list[float] | None) -> tuple[str, ...]:
    notes = []
    single = [method.name for method in (a, b) if len(method.systems) == 1 and not method.seedless]
    if len(single) == 2:
        notes.append(
            f"{OF_SEEDS[0]} each: the result is about these two trained models; how much another seed would "
            "change it cannot be tested"
        )
    elif single:
        notes.append(f"{OF_SEEDS[0]} {single[0]}: how much its seed matters cannot be tested")
    if hardly := [m.name for m in (a, b) if len(m.systems) == 2 and not m.seedless]:
        notes.append(f"{OF_SEEDS[1]} {' and '.join(hardly)} say little about seeds: use three or more")
    if interval is None:
        notes.append("no resample of these rows changes the difference, so there is no interval")
    if pair.metric == "f1_macro" and a.rare:
        notes.append(
            f"{a.rare} of {len(a.systems[0].absent)} labels have fewer than {FEW_ROWS} test rows: the interval of "
            "f1_macro says how far the rows drawn move it, and may be too short for what more rows would show"
        )
    return tuple(notes)


def _right(predicted: Any, gold: Any) -> Any:
    return predicted == gold if predicted.ndim == 1 else (predicted == gold).all(axis=1)


def _gold(run: Predictions) -> Any:
    if run.gold is None:
        raise DataError("the predictions have no gold labels", "evaluate on labelled rows")
    return run.gold


def _check_settings(methods: Mapping[str, Sequence[Predictions]], n_resamples: int, n_rounds: int) -> None:
    if len(methods) < 2:
        raise ConfigError(f"{len(methods)} method(s) cannot be compared", "give at least two")
    for name, runs in methods.items():
        if not runs:
            raise ConfigError(f"method {name!r} has no runs", "give the predictions of at least one run")
    for what, value in (("n_resamples", n_resamples), ("n_rounds", n_rounds)):
        if value < 1:
            raise ConfigError(f"{what} is {value}", "use 1 or more; 2,000 and 10,000 are the defaults")


def _check_rows(methods: Mapping[str, Sequence[Predictions]], metric: str) -> tuple[int, Clusters | None]:
    """The number of rows and how they cluster, after checking that all runs have the same rows, groups and labels."""
    every = [(name, k, run) for name, runs in methods.items() for k, run in enumerate(runs)]
    first_name, _, first = every[0]
    if metric not in LABEL_METRICS[first.task]:
        raise ConfigError(
            f"{metric!r} cannot be compared for a {first.task}-label task",
            f"use one of {', '.join(LABEL_METRICS[first.task])}",
        )
    if not first.ids:
        raise DataError("there are no rows to compare", "give at least 30 labelled test rows")
    for name, k, run in every:
        where = f"run {k + 1} of {name!r}"
        if (run.names, run.task) != (first.names, first.task):
            raise DataError(f"{where} has other labels than {first_name!r}", "compare runs of one data set")
        if run.ids != first.ids:
            raise DataError(
                f"{where} has other rows than {first_name!r} ({len(run.ids):,} and {len(first.ids):,})",
                "evaluate all methods on one test file",
            )
        if not np.array_equal(_gold(run), _gold(first)):
            raise DataError(
                f"{where} has other gold labels than {first_name!r}", "evaluate all on one test file"
            )
        if run.groups != first.groups:
            raise DataError(
                f"{where} has other groups of rows than {first_name!r}",
                "compare runs with one --group column",
            )
    return len(first.ids), Clusters.of(first.groups)
