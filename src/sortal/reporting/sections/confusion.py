"""Which labels are taken for which."""

from __future__ import annotations

from sortal.evaluation.confusion import Confusion, examples
from sortal.reporting.blocks import Block, Figure, Section, Table, Words
from sortal.reporting.formats import label, text
from sortal.reporting.rows import TestRows
from sortal.reporting.source import FinishedRun
from sortal.reporting.svg.heatmap import heatmap

_LABELS, _PAIRS, _EXAMPLE = 16, 20, 120


def confusion(run: FinishedRun, rows: TestRows) -> Section:
    """The matrix of the labels in the most errors, and the most frequent pairs with the surest mistake as an example."""
    found = Confusion.build(run.predictions)
    if not found.errors:
        return Section("confusion", "Confusions", [Words("No label is given in place of another.")])
    chosen = found.most_confused(_LABELS)
    names = [label(run.metrics["per_label"][k]["label"]) for k in chosen]
    counts = found.among(chosen)
    support = [entry["support"] for entry in run.metrics["per_label"]]
    inside = int(counts.sum() - counts.diagonal().sum())
    rows_are = "gold label" if run.single else "label that was missed"
    columns_are = "answer" if run.single else "label wrongly given instead"
    title = "Confusion matrix" if len(chosen) == len(found.names) else f"Confusion matrix of the {len(chosen)} most confused labels"  # fmt: skip
    pairs = found.pairs(_PAIRS)
    worst = ", ".join(
        f"{label(found.names[g])} taken for {label(found.names[p])} {c:,}×" for g, p, c in pairs[:3]
    )
    description = (
        f"{inside:,} of {found.errors:,} errors are between the labels shown. Most frequent: {worst}."
    )
    drawing = heatmap(counts, names, [support[k] for k in chosen], rows_are, columns_are)
    blocks: list[Block] = [
        Figure(
            drawing.svg("confusion-plot", title, description, "chart wide"),
            title,
            description,
            {"labels": [found.names[k] for k in chosen], "counts": counts.tolist(), "errors": found.errors, "errors_shown": inside},
        ),
    ]  # fmt: skip
    hidden = len(found.names) - len(chosen)
    if hidden:
        blocks.append(
            Words(
                f"{hidden:,} labels with fewer errors are left out, and with them {found.errors - inside:,} of {found.errors:,} errors."
            )
        )
    if not run.single:
        blocks.append(
            Words(
                "With several labels per row, a pair counts when one label was missed and the other wrongly given in the same row; the diagonal counts labels rightly given. A label that was only missed, or only wrongly given, is in no pair."
            )
        )
    blocks.append(_pairs(run, rows, found, pairs, support))
    return Section("confusion", "Confusions", blocks)


def _pairs(
    run: FinishedRun,
    rows: TestRows,
    found: Confusion,
    pairs: list[tuple[int, int, int]],
    support: list[int],
) -> Table:
    header = ["gold", "given instead", "rows", "of gold"]
    lines = [
        [label(found.names[g]), label(found.names[p]), f"{c:,}", f"{c / max(support[g], 1):.0%}"]
        for g, p, c in pairs
    ]
    if rows.texts is None:
        return Table("Most confused pairs", header, lines, "llrr")
    shown = [text(rows.text(row), _EXAMPLE) for row in examples(run.predictions, pairs)]
    return Table(
        "Most confused pairs, with the mistake the run is surest of",
        [*header, "for example"],
        [[*line, words] for line, words in zip(lines, shown, strict=True)],
        "llrrt",
    )
