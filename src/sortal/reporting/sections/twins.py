"""Figures without the test rows that have a twin, an equal or nearly equal text in train or dev, and the pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from sortal.checks.base import CheckContext
from sortal.checks.twins import SEEN, Twins
from sortal.comparison.results import Comparison
from sortal.comparison.tables import twins_rows
from sortal.evaluation import words
from sortal.evaluation.clusters import Clusters
from sortal.evaluation.tables import twin_rows
from sortal.evaluation.without_rows import without_rows
from sortal.reporting.blocks import Block, Section, Table, Words
from sortal.reporting.formats import text
from sortal.reporting.seen_data import SeenData
from sortal.reporting.source import FinishedRun

_PAIRS, _TEXT = 25, 200


def figures_without(run: FinishedRun, seen: SeenData) -> dict[str, Any] | None:
    """``without_twins`` of metrics.json, worked out for a run of an earlier version; None where its data is gone."""
    without: dict[str, Any] | None = run.metrics.get("without_twins")
    if without is not None or seen.twins is None:
        return without
    p = run.predictions
    answers = [(np.asarray(p.gold), p.predicted)]
    return seen.twins.counts() | without_rows(
        answers, len(p.names), p.task, seen.twins.rows, clusters=Clusters.of(p.groups)
    )


def twins(run: FinishedRun, without: dict[str, Any] | None, seen: SeenData) -> Section | None:
    """Of one run; ``without``: of `figures_without`."""
    if without is None:
        return None
    blocks: list[Block] = [Words(words.twins(without))]
    if without["rows"] and without["figures"]:
        header, *rows = twin_rows(without, run.metrics)
        caption = f"{without['n']:,} test rows without a twin, beside all {run.metrics['n']:,}"
        blocks.append(Table(caption, header, rows, "lrrrrr"))
    return _section(blocks, seen)


def twins_compared(found: Comparison, seen: SeenData) -> Section | None:
    """Of a comparison; None in one of an earlier version."""
    clean = found.without_twins
    if clean is None:
        return None
    blocks: list[Block] = [Words(words.twins(clean.to_json()))]
    header, *rows = twins_rows(found)
    if rows:
        caption = f"{found.metric} on {clean.n:,} test rows without a twin, beside all {found.n:,}; means over runs, best first"
        blocks.append(Table(caption, header, rows, "lrrrrr"))
    return _section(blocks, seen)


def _section(blocks: list[Block], seen: SeenData) -> Section:
    if seen.twins is not None and seen.context is not None and len(seen.twins.rows):
        blocks.append(_pairs(seen.twins, seen.context, seen.with_texts))
    return Section("twins", "Test rows with a twin in train or dev", blocks)


def _pairs(found: Twins, context: CheckContext, with_texts: bool) -> Table:
    """The pairs, the most alike first."""
    test = context.parts["test"]
    rows = []
    for i in np.lexsort((-found.likeness, ~found.equal))[:_PAIRS].tolist():
        row, part, source = int(found.rows[i]), SEEN[int(found.seen[i])], int(found.source[i])
        other = context.parts[part]
        alike = "equal" if found.equal[i] else f"{found.likeness[i]:.0%}"
        line = [f"{int(test.rows[row]):,}", f"{part} {int(other.rows[source]):,}", alike]
        if with_texts:
            pair = test.text_at([row])[0], other.text_at([source])[0]
            line += [text(one, _TEXT) for one in pair]
        rows.append(line)
    header = ["test row", "seen row", "alike"] + ["test text", "seen text"] * with_texts
    shown = (
        f"The {len(rows)} most alike of {len(found.rows):,} pairs"
        if len(rows) < len(found.rows)
        else "All pairs"
    )
    return Table(
        f"{shown}; row numbers are those of the files", header, rows, "lrr" + "tt" * with_texts, folded=True
    )
