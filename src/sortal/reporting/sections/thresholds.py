"""What another threshold, or not answering, would give."""

from __future__ import annotations

import numpy as np

from sortal.evaluation.curves import coverage_curve, threshold_sweep
from sortal.reporting.blocks import Figure, Section, Table, Words
from sortal.reporting.formats import share
from sortal.reporting.source import FinishedRun
from sortal.reporting.svg.lines import Mark, Series, line_plot
from sortal.reporting.svg.scales import Scale, padded

_GRID = np.round(np.arange(0.01, 1.0, 0.01), 2)
_MOST_THRESHOLDS = 200


def thresholds(run: FinishedRun) -> Section:
    """Coverage and accuracy for one label per row; one threshold for all labels for several."""
    return _abstaining(run) if run.single else _one_threshold(run)


def _abstaining(run: FinishedRun) -> Section:
    predictions, ladder = run.predictions, run.metrics["coverage_table"]
    coverage, accuracy = coverage_curve(predictions.probabilities, np.asarray(predictions.gold))
    used = run.metrics.get("abstain_below")
    answered = [row for row in ladder if row["answered"]]
    marks = (
        []
        if used is None
        else [
            Mark(run.metrics["coverage"], run.metrics["selective_accuracy"] or 0.0, f"in use: below {used:g}")
        ]
    )
    title = "Accuracy of the answered rows, when the least certain are not answered"
    description = "; ".join(
        f"abstaining below {row['abstain_below']:.2f} answers {row['coverage']:.0%} with accuracy {share(row['accuracy'])}"
        for row in answered
    )
    plot = line_plot(
        Scale(0, 1, "coverage: share of rows that are answered", lambda v: f"{v:.1f}"),
        Scale(*padded([*accuracy.tolist(), *(mark.y for mark in marks)]), "accuracy of the answered", lambda v: f"{v:.3g}"),
        [Series("most confident rows first", coverage.tolist(), accuracy.tolist())],
        marks=marks,
    )  # fmt: skip
    rows = [
        [f"{row['abstain_below']:.2f}", f"{row['answered']:,}", f"{row['coverage']:.1%}", share(row["accuracy"]) or "–"]
        for row in ladder
    ]  # fmt: skip
    words = (
        "This model always answers."
        if used is None
        else f"This model gives no answer when its best probability is below {used:g}."
    )
    return Section(
        "thresholds",
        "Abstaining",
        [
            Words(f"{words} Test rows are shown; a value to use is better chosen on other rows."),
            Figure(plot.svg("coverage-plot", title, description), title, description, {"coverage": coverage.tolist(), "accuracy": accuracy.tolist()}),
            Table("Abstaining below a probability", ["abstain below", "answered", "coverage", "accuracy of the answered"], rows, "lrrr"),
        ],
    )  # fmt: skip


def _one_threshold(run: FinishedRun) -> Section:
    predictions = run.predictions
    swept = threshold_sweep(predictions.probabilities, np.asarray(predictions.gold), _GRID)
    chosen = sorted({float(entry["threshold"]) for entry in run.metrics["per_label"]})
    best = int(np.argmax(swept["f1"]))
    series = [Series(f"micro {name}", _GRID.tolist(), swept[name].tolist()) for name in ("f1", "precision", "recall")]  # fmt: skip
    title = "Micro F1, precision and recall, if all labels had one threshold"
    kind = (
        f"one threshold for all labels, {chosen[0]:.3f}"
        if len(chosen) == 1
        else f"thresholds from {chosen[0]:.3f} to {chosen[-1]:.3f}, by label"
    )
    description = (
        f"The model uses {kind}, shown as strokes along the axis, and reaches micro F1 {share(run.metrics['f1_micro'])}. "
        f"With one threshold, micro F1 would be highest on these test rows at {_GRID[best]:.2f}: {share(float(swept['f1'][best]))}."
    )
    rug = [float(v) for v in np.quantile(chosen, np.linspace(0, 1, min(len(chosen), _MOST_THRESHOLDS)))]
    plot = line_plot(
        Scale(0, 1, "threshold", lambda v: f"{v:.1f}"),
        Scale(0, 1, "value", lambda v: f"{v:.1f}"),
        series,
        rug=rug,
    )
    data = {"threshold": _GRID.tolist(), **{name: values.tolist() for name, values in swept.items()}}
    return Section(
        "thresholds",
        "Thresholds",
        [
            Words(f"{description} The thresholds were tuned on dev for {run.record['config'].get('threshold_metric', 'f1_macro')}; the curves are of test rows."),
            Figure(plot.svg("threshold-plot", title, description), title, description, data),
        ],
    )  # fmt: skip
