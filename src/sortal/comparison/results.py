"""What finished cells measured: one record per cell, and each method's mean over its seeds with an interval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from sortal.comparison.cells import Cell
from sortal.comparison.mistakes import Mistakes
from sortal.comparison.names import is_seedless
from sortal.comparison.twins import WithoutTwins
from sortal.evaluation.clusters import Clusters, independent
from sortal.evaluation.comparison import MIN_ROWS, PairComparison
from sortal.evaluation.intervals import holding_interval, unanimous_interval
from sortal.evaluation.label_metrics import SHARES, LabelMetrics
from sortal.evaluation.paired import resample_runs, resampled_difference, run_values
from sortal.evaluation.predictions import Predictions, read_predictions
from sortal.evaluation.significance import compare_pairs

RESULT_NAME = "comparison.json"
QUALITY = ("accuracy", "subset_accuracy", "f1_micro", "f1_macro", "ece")
COST = (
    "trainable_parameters",
    "train_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "texts_per_second",
    "seconds_per_text_alone",
    "model_bytes",
    "base_model_bytes",
)


@dataclass(frozen=True)
class MethodSummary:
    """Means over a method's finished runs.

    value, interval: the compared metric, its 95 % bootstrap interval over rows or their groups (and seeds, from two runs on); None below 30 of them.
    quality, cost: other figures by name (`QUALITY`, `COST`); what a method does not have is left out.
    """

    method: str
    runs: int
    value: float
    interval: list[float] | None
    quality: dict[str, float]
    cost: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found out, so far.

    metric: the compared metric; n: test rows; cells: one record per cell, finished or not; jobs: the most cells that shared the
    machine; without_twins: None in a comparison of an earlier version; left_out: as in run.json, None where all test rows are measured.
    """

    metric: str
    n: int
    cells: list[dict[str, Any]]
    methods: list[MethodSummary]
    pairs: list[PairComparison]
    advice: list[str]
    mistakes: Mistakes
    jobs: int = 1
    without_twins: WithoutTwins | None = None
    left_out: dict[str, int] | None = None

    @property
    def groups(self) -> int | None:
        """That the test rows fall into; None where every row stands alone, or nothing was compared."""
        return self.pairs[0].groups if self.pairs else None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "metric": self.metric,
            "test_rows": self.n,
            "cells": self.cells,
            "methods": [asdict(summary) for summary in self.methods],
            "pairs": [pair.to_json() for pair in self.pairs],
            "advice": self.advice,
            "mistakes": self.mistakes.to_json(),
            "jobs": self.jobs,
            "without_twins": None if self.without_twins is None else self.without_twins.to_json(),
            "left_out": self.left_out,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Comparison:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError: keys are missing or unknown: damaged, or written by another version.
        """
        return cls(
            values["metric"],
            values["test_rows"],
            values["cells"],
            [MethodSummary(**summary) for summary in values["methods"]],
            [PairComparison.from_json(pair) for pair in values["pairs"]],
            values["advice"],
            Mistakes.from_json(values["mistakes"]),
            values.get("jobs", 1),
            WithoutTwins(**twins) if (twins := values.get("without_twins")) else None,
            values.get("left_out"),
        )


def cell_record(cell: Cell, reasons: Mapping[str, str]) -> dict[str, Any]:
    """Status of a cell and, once it is finished, what it measured; ``reasons``: why cells failed, by name."""
    record: dict[str, Any] = {
        "name": cell.name,
        "method": cell.method,
        "seed": cell.seed,
        "status": cell.status,
    }
    if cell.name in reasons:
        record |= {"status": "failed", "reason": reasons[cell.name]}
    if record["status"] != "finished":
        return record
    run, metrics = (
        cell.folder.read_run_json(),
        json.loads(cell.folder.metrics_json.read_text(encoding="utf-8")),
    )
    figures = {**run["training"], **run["inference"], **run.get("size_on_disk", {})}
    return {
        **record,
        "folder": str(cell.folder.path),
        "device": run["environment"]["device"],
        "metrics": {key: metrics[key] for key in QUALITY if metrics.get(key) is not None},
        "cost": {key: figures[key] for key in COST if figures.get(key) is not None},
    }


def finished_runs(
    cells: Sequence[Cell], records: Sequence[Mapping[str, Any]]
) -> dict[str, list[Predictions]]:
    """Predictions of every method's finished runs, in the order of the cells."""
    runs: dict[str, list[Predictions]] = {}
    for cell, record in zip(cells, records, strict=True):
        if record["status"] == "finished":
            runs.setdefault(cell.method, []).append(read_predictions(cell.folder.predictions))
    return runs


def summaries(
    runs: Mapping[str, Sequence[Predictions]],
    records: Sequence[Mapping[str, Any]],
    metric: str,
    n_resamples: int,
    seed: int,
) -> tuple[list[MethodSummary], list[PairComparison]]:
    """Every method with a finished run, and every pair of them; no pair when fewer than two have any."""
    finished = {
        method: [r for r in records if r["method"] == method and r["status"] == "finished"] for method in runs
    }
    found = [
        MethodSummary(
            method,
            len(given),
            *_value(given, metric, n_resamples, seed),
            _means([record["metrics"] for record in finished[method]]),
            _means(_costs(finished[method])),
        )
        for method, given in runs.items()
    ]
    if len(runs) < 2:
        return found, []
    seedless = [method for method in runs if is_seedless(method)]
    return found, compare_pairs(runs, metric, n_resamples=n_resamples, seed=seed, seedless=seedless)


def _value(
    runs: Sequence[Predictions], metric: str, n_resamples: int, seed: int
) -> tuple[float, list[float] | None]:
    systems = [
        LabelMetrics.build(run.gold, run.predicted, len(run.names), run.task)
        for run in runs
        if run.gold is not None  # a run's test rows have labels
    ]
    points = run_values(systems, metric)
    clusters = Clusters.of(runs[0].groups)
    alone = independent(systems[0].n, clusters)
    if alone < MIN_ROWS:
        return float(points.mean()), None
    if metric in SHARES[systems[0].task] and (points == points[0]).all() and points[0] in (0.0, 1.0):
        return float(points[0]), unanimous_interval(points[0] == 1.0, alone)
    nothing = np.zeros(1), np.zeros((1, n_resamples))
    resampled = resample_runs(systems, metric, n_resamples, seed, clusters)
    draws = resampled_difference((points, resampled), nothing, seed)
    # A normal-tailed part for seeds may reach beyond what a share can be.
    return float(points.mean()), holding_interval(draws.clip(0.0, 1.0), float(points.mean()))


def _costs(records: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Of the runs on the device of the first: means over a GPU and a CPU would be those of no machine."""
    return [record["cost"] for record in records if record["device"] == records[0]["device"]]


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    shared = [key for key in figures[0] if all(key in other for other in figures)]
    return {key: fmean(other[key] for other in figures) for key in shared}
