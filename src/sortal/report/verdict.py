"""The result in sentences, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortal.comparison.results import Comparison
from sortal.comparison.tables import notes
from sortal.report.formats import share
from sortal.report.source import FinishedRun

_FEW = 30


def of_run(run: FinishedRun) -> list[str]:
    """What one run reaches: never that it is better than anything."""
    metrics, name = run.metrics, run.metric
    lines = [
        f"{run.method} reaches {name} {share(metrics[name])}{_interval(metrics['intervals'].get(name))} on {metrics['n']:,} test rows with {metrics['n_labels']:,} labels."
    ]
    lines.append(calibrated(metrics))
    return lines


def of_comparison(found: Comparison) -> list[str]:
    """The advice with the interval of the best method, and the test of the closest pair."""
    best = max(found.methods, key=lambda summary: summary.value)
    runs = "one run" if best.runs == 1 else f"the mean of {best.runs} runs"
    lines = [
        f"{found.advice[0]} {best.method}: {found.metric} {share(best.value)}{_interval(best.interval)} ({runs}, {found.n:,} test rows).",
        *found.advice[1:],
    ]
    tested = [pair for pair in found.pairs if pair.p is not None]
    if tested:
        closest = min(tested, key=lambda pair: abs(pair.difference)).verdict
        lines.append(f"{'The closest two' if len(tested) > 1 else 'The test'}: {closest}.")
    return lines


def run_notes(run: FinishedRun) -> list[str]:
    """What the figures of one run cannot tell."""
    lines = [
        f"One training run (seed {run.seed}): how much another seed would change is not measured here, and no other method stands beside it."
    ]
    if run.metrics["n"] < _FEW:
        lines.append(f"{run.metrics['n']} test rows are too few to say much.")
    return lines + weights(run)


def comparison_notes(found: Comparison, shown: FinishedRun) -> list[str]:
    """What the figures of a comparison cannot tell."""
    waiting = [cell["name"] for cell in found.cells if cell["status"] != "finished"]
    lines = [f"{note[:1].upper()}{note[1:]}." for note in notes(found)]
    if waiting:
        lines.append(
            f"Not finished, and not counted: {', '.join(waiting[:10])}{' …' if len(waiting) > 10 else ''}."
        )
    return lines + weights(shown)


def calibrated(metrics: Mapping[str, Any]) -> str:
    """How far stated probabilities are from what comes true.

    With several labels nearly all probabilities are close to 0 and true; those above the lowest bin are told apart.
    """
    words = f"Stated probabilities are {100 * metrics['ece']:.1f} points off on average (ECE {share(metrics['ece'])}{_interval(metrics['intervals'].get('ece'))})"
    higher = [one for one in metrics["calibration_bins"][1:] if one["count"]]
    total = sum(one["count"] for one in higher)
    if metrics["task"] == "single" or not total:
        return f"{words}."
    gap = sum(abs(one["confidence"] - one["accuracy"]) * one["count"] for one in higher) / total
    low = metrics["calibration_bins"][0]
    return f"{words}; {low['count']:,} of them are below {low['high']:.2f}, and the other {total:,} are {100 * gap:.1f} points off."


def weights(run: FinishedRun) -> list[str]:
    """Where base weights are not as they were published."""
    base = run.record.get("base_model")
    return [f"Base weights: {base['spec']}, {base['note']}."] if base and base.get("note") else []


def _interval(interval: list[float] | None) -> str:
    return "" if interval is None else f", 95 % interval {share(interval[0])} to {share(interval[1])}"
