"""Precision and recall of single labels at every threshold."""

from __future__ import annotations

import numpy as np

from sortal.evaluation.curves import PrecisionRecall, precision_recall
from sortal.reporting.blocks import Figure, Gallery, Section, Words
from sortal.reporting.formats import label, share
from sortal.reporting.source import FinishedRun
from sortal.reporting.svg.panel import panel

_EACH, _ROWS = 6, 10


def ranking(run: FinishedRun) -> Section:
    """Precision–recall curves: all labels pooled, the labels with the lowest average precision, the most frequent ones."""
    predictions, entries = run.predictions, run.metrics["per_label"]
    gold = np.asarray(predictions.gold)
    if run.single:
        gold = gold[:, None] == np.arange(len(predictions.names))
    p = predictions.probabilities
    curves = {k: precision_recall(p[:, k], gold[:, k]) for k in range(len(entries)) if entries[k]["support"]}
    enough = [k for k in curves if entries[k]["support"] >= _ROWS] or list(curves)
    worst = sorted(enough, key=lambda k: curves[k].average)[:_EACH]
    frequent = sorted((k for k in curves if k not in worst), key=lambda k: -entries[k]["support"])[:_EACH]
    figures = [_pooled(run, precision_recall(p.ravel(), gold.ravel().astype(np.uint8)))]
    for k in (*worst, *frequent):
        entry = entries[k]
        chosen = (entry["recall"], entry["precision"]) if entry["predicted"] else None
        figures.append(
            _figure(f"pr-{k}", label(entry["label"], 30), curves[k], entry["support"] / run.metrics["n"], chosen, f"{entry['support']:,} rows")
        )  # fmt: skip
    words = (
        "Of every threshold on a label's probability; the diamond is what the model's own answers reach, the dashed line what giving the "
        "label to every row would. First all labels pooled"
    )
    words += (
        f", then the {len(worst)} with the lowest average precision (AP) among those with {_ROWS} test rows or more, then the {len(frequent)} most frequent others."
        if frequent
        else ", then every label, the lowest average precision (AP) first."
    )
    if left := len(curves) - len(worst) - len(frequent):
        words += f" {left:,} labels are left out."
    return Section("ranking", "Precision and recall", [Words(words), Gallery(figures)])


def _pooled(run: FinishedRun, curve: PrecisionRecall) -> Figure:
    entries = run.metrics["per_label"]
    hits = sum(entry["recall"] * entry["support"] for entry in entries)
    given, gold = (sum(entry[key] for entry in entries) for key in ("predicted", "support"))
    chosen = (hits / gold, hits / given) if given and gold else None
    rate = gold / (run.metrics["n"] * len(entries))
    return _figure("pr-pooled", "all labels", curve, rate, chosen, f"{len(entries):,} labels")


def _figure(
    id: str,
    name: str,
    curve: PrecisionRecall,
    rate: float,
    chosen: tuple[float, float] | None,
    rows: str,
) -> Figure:
    title = f"{name}: AP {share(curve.average)}, {rows}"
    description = f"Average precision {share(curve.average)}. " + (
        "The label was never given."
        if chosen is None
        else f"The answers given have precision {share(chosen[1])} and recall {share(chosen[0])}."
    )
    data = {
        "recall": curve.recall.tolist(),
        "precision": curve.precision.tolist(),
        "average_precision": curve.average,
    }
    return Figure(panel(curve, rate, chosen).svg(id, title, description, "panel"), title, description, data, small=True)  # fmt: skip
