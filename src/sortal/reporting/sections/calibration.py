"""Whether the probabilities come true."""

from __future__ import annotations

from sortal.evaluation import words
from sortal.reporting.blocks import Figure, Section, Table, Words
from sortal.reporting.formats import share, span
from sortal.reporting.source import FinishedRun
from sortal.reporting.svg.reliability import reliability_plot


def calibration(run: FinishedRun) -> Section:
    """The reliability diagram with the counts behind it, and the same as a table."""
    metrics = run.metrics
    stated, true = (
        ("stated probability of the answer", "share of answers that are right")
        if run.single
        else ("stated probability of a label", "share of rows that have the label")
    )
    filled = [one for one in metrics["calibration_bins"] if one["count"]]
    widest = max(filled, key=lambda one: abs(one["confidence"] - one["accuracy"]))
    interval = metrics["intervals"].get("ece")
    title = (
        f"Reliability: ECE {share(metrics['ece'])}{f', 95 % interval {span(interval)}' if interval else ''}"
    )
    description = (
        f"On the dashed line, probabilities come true. The widest gap is at {share(widest['confidence'])}, "
        f"where {share(widest['accuracy'])} come true ({widest['count']:,} predictions)."
    )
    drawing = reliability_plot(filled, stated, true)
    rows = [
        [f"{one['low']:.2f} – {one['high']:.2f}", f"{one['count']:,}", share(one["confidence"]), share(one["accuracy"])]
        for one in filled
    ]  # fmt: skip
    return Section(
        "calibration",
        "Calibration",
        [
            Words(words.calibration(metrics)),
            Figure(drawing.svg("calibration-plot", title, description), title, description, {"bins": filled}),
            Table("The same in numbers", ["probability", "predictions", "mean stated", "came true"], rows, "lrrr", folded=True),
        ],
    )  # fmt: skip
