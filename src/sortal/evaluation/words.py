"""Sentences that say what a figure of ``metrics.json`` means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def interval(bounds: Sequence[float] | None) -> str:
    """``, 95 % interval 0.902 to 0.922``, to follow a figure; nothing for None."""
    return "" if bounds is None else f", 95 % interval {bounds[0]:.3f} to {bounds[1]:.3f}"


def test_rows(n: int, groups: int | None) -> str:
    """``1,000 test rows of 40 groups``; without groups where every row stands alone."""
    return f"{n:,} test rows" if groups is None else f"{n:,} test rows of {groups:,} groups"


def too_few(n: int, groups: int | None) -> str:
    """``29 test rows are too few``, or so many groups of them."""
    return f"{n} test rows are too few" if groups is None else f"{groups} groups of test rows are too few"


def calibration(metrics: Mapping[str, Any]) -> str:
    """How far stated probabilities are from what comes true.

    With several labels nearly all probabilities are close to 0, and right to be; those above the lowest bin are told apart.
    """
    ece = f"ECE {metrics['ece']:.3f}{interval(metrics['intervals'].get('ece'))}"
    words = f"Stated probabilities are {100 * metrics['ece']:.1f} points off on average ({ece})"
    low, *higher = metrics["calibration_bins"]
    total = sum(one["count"] for one in higher)
    if metrics["task"] == "single" or not total:
        return f"{words}."
    gap = (
        sum(abs(one["confidence"] - one["accuracy"]) * one["count"] for one in higher if one["count"]) / total
    )
    return f"{words}; {low['count']:,} of them are at most {low['high']:.2f}, and the other {total:,} are {100 * gap:.1f} points off."


def left_out(figures: Mapping[str, Any], what: str = "test rows") -> str:
    """What is not measured because no training row has it; ``figures``: ``left_out`` of metrics.json, or the counts of run.json."""
    labels, rows, of = figures["labels"], figures["rows"], figures["of"]
    words = f"{what.capitalize()} with labels that were not trained on were left out: {rows:,} of {of:,} ({rows / of:.1%})"
    if figures["shortened"]:
        words += f", and {figures['shortened']:,} more lost some of their labels"
    words += f"; {labels:,} such {'label' if labels == 1 else 'labels'}."
    if (accuracy := figures.get("accuracy_of_all")) is not None:
        words += f" With the rows left out counted as wrong, accuracy is {accuracy:.3f}."
    if (f1 := figures.get("f1_micro_of_all")) is not None:
        words += f" With these labels counted as missed, micro-F1 is at most {f1:.3f}."
    return words


def twins(without: Mapping[str, Any]) -> str:
    """How many test rows have a twin among the rows that the model was made with; ``without``: of metrics.json."""
    rows, n = without["rows"], without["rows"] + without["n"]
    bound = "" if without["near_checked"] else " (near-duplicates were not looked for: the data is large)"
    if not rows:
        return f"No test row has a text of train or dev, or nearly{bound}."
    kinds = f"{without['equal']:,} equal, {without['near']:,} nearly equal"
    return (
        f"{rows:,} of {n:,} test rows ({rows / n:.1%}) {'has' if rows == 1 else 'have'} a twin, a text of train or dev, or nearly "
        f"({kinds}){bound}{'' if without['n'] else ': no row is left to measure on'}."
    )
