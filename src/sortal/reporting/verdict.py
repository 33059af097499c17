"""The result in sentences, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortal.comparison.results import Comparison
from sortal.comparison.tables import notes
from sortal.evaluation.comparison import MIN_ROWS
from sortal.evaluation.words import calibration, interval, left_out, test_rows, twins
from sortal.reporting.formats import share
from sortal.reporting.source import FinishedRun


def of_run(run: FinishedRun) -> list[str]:
    """What one run reaches: never that it is better than anything."""
    metrics, name = run.metrics, run.metric
    lines = [
        f"{run.method} reaches {name} {share(metrics[name])}{interval(metrics['intervals'].get(name))} on {test_rows(metrics['n'], metrics.get('groups'))} with {metrics['n_labels']:,} labels."
    ]
    lines.append(calibration(metrics))
    return lines


def of_comparison(found: Comparison) -> list[str]:
    """The advice with the interval of the best method, and the test of the closest pair."""
    best = max(found.methods, key=lambda summary: summary.value)
    runs = "one run" if best.runs == 1 else f"the mean of {best.runs} runs"
    lines = [
        f"{found.advice[0]} {best.method}: {found.metric} {share(best.value)}{interval(best.interval)} ({runs}, {test_rows(found.n, found.groups)}).",
        *found.advice[1:],
    ]
    tested = [pair for pair in found.pairs if pair.p is not None and best.method in (pair.a, pair.b)]
    if tested:
        closest = min(tested, key=lambda pair: abs(pair.difference)).verdict
        lines.append(f"{'Beside the method closest to it' if len(tested) > 1 else 'The test'}: {closest}.")
    return lines


def run_notes(run: FinishedRun, without: Mapping[str, Any] | None = None) -> list[str]:
    """What the figures of one run cannot tell; ``without``: its figures without test rows that have a twin."""
    lines = [
        f"One training run (seed {run.seed}): how much another seed would change is not measured here, and no other method stands beside it."
    ]
    if run.metrics["n"] < MIN_ROWS:
        lines.append(f"{run.metrics['n']} test rows are too few to say much.")
    if run.metrics.get("left_out"):
        lines.append(left_out(run.metrics["left_out"]))
    if without is not None and without["rows"]:
        lines.append(f"{twins(without)}{_without(run, without)}")
    return lines + weights(run)


def _without(run: FinishedRun, without: Mapping[str, Any]) -> str:
    value = without["figures"].get(run.metric)
    if value is None:
        return ""
    return f" Without them {run.metric} is {share(value)}{interval(without['intervals'].get(run.metric))}."


def comparison_notes(found: Comparison, shown: FinishedRun) -> list[str]:
    """What the figures of a comparison cannot tell."""
    waiting = [cell["name"] for cell in found.cells if cell["status"] != "finished"]
    lines = [f"{note[:1].upper()}{note[1:].removesuffix('.')}." for note in notes(found)]
    if waiting:
        lines.append(
            f"Not finished, and not counted: {', '.join(waiting[:10])}{' …' if len(waiting) > 10 else ''}."
        )
    return lines + weights(shown)


def weights(run: FinishedRun) -> list[str]:
    """Where base weights are not as they were published."""
    base = run.record.get("base_model")
    return [f"Base weights: {base['spec']}, {base['note']}."] if base and base.get("note") else []
