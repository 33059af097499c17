"""Rows that are wrong: by kind, the surest ones with their texts, and those that every method misses."""

from __future__ import annotations

import numpy as np

from sortal.comparison.results import Comparison
from sortal.comparison.tables import missed_rows, slice_rows
from sortal.evaluation.errors import confident_mistakes, slices
from sortal.evaluation.predictions import Predictions
from sortal.reporting.blocks import Block, Section, Table, Words
from sortal.reporting.formats import TEXT_WIDTH, label, labels, share, text
from sortal.reporting.rows import TestRows
from sortal.reporting.source import FinishedRun, Source

_KEPT = 25


def kinds(source: Source, rows: TestRows) -> Section | None:
    """The metric on kinds of rows; None for one run without its data."""
    if source.comparison is not None:
        found = slice_rows(source.comparison)
        lines = found[1:]
        header = found[0]
    elif rows.texts is not None and rows.label_counts is not None:
        run = source.shown
        parts = slices({run.method: [run.predictions]}, source.metric, rows.texts, rows.label_counts)
        header = ["kind of rows", "rows", source.metric]
        lines = [[part.name, f"{part.rows:,}", share(part.values[run.method])] for part in parts]
    else:
        return None
    if not lines:
        return None
    align = "l" + "r" * (len(header) - 1)
    return Section("kinds", "Kinds of rows", [Table(f"{source.metric} on kinds of rows", header, lines, align)])  # fmt: skip


def mistakes(run: FinishedRun, rows: TestRows) -> Section:
    """The mistakes a run is surest of; with their texts where these can be had."""
    predictions = run.predictions
    wrong = confident_mistakes(predictions)
    if not len(wrong):
        return Section("mistakes", "Mistakes", [Words("Every test row is right.")])
    header = ["row", "text", "gold", "answer", "probability"]
    lines = []
    for row in wrong[:_KEPT].tolist():
        gold, answer, stated = _sides(predictions, row)
        lines.append([text(predictions.ids[row], 40), text(rows.text(row)), gold, answer, stated])
    align = "ltllr"
    if rows.texts is None:
        header, align = [header[0], *header[2:]], "lllr"
        lines = [[line[0], *line[2:]] for line in lines]
    blocks: list[Block] = [
        Words(
            f"{len(wrong):,} of {run.metrics['n']:,} rows are not exactly right. Where the model is sure of a mistake, the label in the data may be the wrong one."
        )
    ]
    shown = min(len(wrong), _KEPT)
    blocks.append(Table(f"The {shown:,} mistakes the run is surest of", header, lines, align))
    return Section("mistakes", "Mistakes", blocks)


def missed(found: Comparison, with_texts: bool) -> Section | None:
    """Rows that every run of every method misses; None when there are none."""
    if not found.mistakes.rows:
        return None
    kept = missed_rows(found, _KEPT, TEXT_WIDTH)
    kept = [[cell or "–" for cell in row] for row in kept]  # a method may have given no label
    align = "lt" + "l" * (len(kept[0]) - 2)
    if not with_texts:
        kept, align = [[row[0], *row[2:]] for row in kept], align.replace("t", "")
    words = f"{found.mistakes.missed:,} rows are missed by every run of every method (majority is not asked): look there for wrong labels first."
    shown = len(kept) - 1
    table = Table(
        f"{shown:,} of them, the surest mistakes first" if shown < found.mistakes.missed else "All of them, the surest mistakes first",
        kept[0], kept[1:], align,
    )  # fmt: skip
    return Section("missed", "Rows that every method misses", [Words(words), table])


def _sides(run: Predictions, row: int) -> tuple[str, str, str]:
    """Gold, answer, and the probability behind the mistake."""
    gold, answer, p = np.asarray(run.gold)[row], run.predicted[row], run.probabilities[row]
    if run.predicted.ndim == 1:
        given = "no answer" if answer < 0 else label(run.names[answer])
        return label(run.names[gold]), given, share(float(p.max()))
    furthest = int(np.abs(p - gold).argmax())
    return (
        labels([run.names[k] for k in np.flatnonzero(gold)]),
        labels([run.names[k] for k in np.flatnonzero(answer)]),
        f"{share(float(p[furthest]))} {label(run.names[furthest], 24)}",
    )
