"""How good, at what cost, and which differences are more than chance: tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from sortal.comparison.results import Comparison
from sortal.comparison.tables import cost_rows, pair_rows, quality_rows
from sortal.comparison.units import clock, count, size
from sortal.evaluation.tables import TITLES
from sortal.evaluation.words import test_rows
from sortal.reporting.blocks import Block, Section, Table, Words
from sortal.reporting.formats import share, span
from sortal.reporting.sections.cost import cost_figure
from sortal.reporting.source import FinishedRun

_CELLS = 200


def figures(run: FinishedRun) -> Section:
    """Every figure of one run with its interval, and what it cost."""
    metrics = run.metrics
    rows = [
        [title, share(metrics[name]), span(metrics["intervals"].get(name))]
        for name, title in TITLES.items()
        if metrics.get(name) is not None
    ]
    words = [f"Intervals: {metrics['interval_method']}."]
    if absent := metrics.get("labels_without_rows"):
        words.append(
            f"Labels with neither rows nor predictions here: {absent:,} of {metrics['n_labels']:,}; they count as 0 in F1 macro."
        )
    if empty := metrics.get("rows_without_labels"):
        words.append(
            f"Rows that have no label and were given none, which is right: {empty:,} of {metrics['n']:,}; they count as 0 in F1 per row."
        )
    return Section(
        "figures",
        "Figures",
        [
            Table(f"{test_rows(metrics['n'], metrics.get('groups'))}, {metrics['n_labels']:,} labels", ["figure", "value", "95 % interval"], rows, "lrr"),
            Words(" ".join(words)),
            Table("Cost", ["what", "value"], _costs(run), "lr"),
        ],
    )  # fmt: skip


def comparison(found: Comparison) -> Section:
    """Quality and cost of every method, the plot of both, every pair, and every run."""
    quality, cost = quality_rows(found), cost_rows(found)
    blocks: list[Block] = [
        _table(
            f"{found.metric} on {test_rows(found.n, found.groups)}; means over runs, best first", quality, "l"
        ),
    ]
    if figure := cost_figure(found):
        blocks.append(figure)
    blocks.append(_table("Cost; means over runs, in the same order", cost, "l"))
    if found.pairs:
        words = "Both methods of a pair answer the same rows. p is corrected for the number of pairs (Holm); not told apart is no proof of being equal."
        pairs = pair_rows(found)
        blocks += [
            Table("Pairs: which differences are more than chance", pairs[0], pairs[1:], "lrrrl"),
            Words(words),
        ]
    blocks.append(_runs(found))
    return Section("comparison", "Methods beside each other", blocks)


def _runs(found: Comparison) -> Table:
    rows = []
    for cell in found.cells[:_CELLS]:
        value = cell.get("metrics", {}).get(found.metric)
        seconds = cell.get("cost", {}).get("train_seconds")
        apart = ""
        if value is not None:
            own = [
                c["metrics"][found.metric]
                for c in found.cells
                if c["method"] == cell["method"] and "metrics" in c
            ]
            apart = f"{100 * (value - fmean(own)):+.1f} points" if len(own) > 1 else ""
        rows.append(
            [cell["name"], share(value), apart, "" if seconds is None else clock(seconds), _status(cell)]
        )
    more = "" if len(found.cells) <= _CELLS else f"; the first {_CELLS} of {len(found.cells):,}"
    return Table(
        f"Every run, by seed{more}", ["run", found.metric, "from its mean", "training", "status"],
        rows, "lrrrl",
    )  # fmt: skip


def _status(cell: dict[str, str]) -> str:
    return f"{cell['status']}: {cell['reason']}" if cell.get("reason") else cell["status"]


def _table(caption: str, rows: Sequence[Sequence[str]], first: str) -> Table:
    return Table(caption, rows[0], rows[1:], first + "r" * (len(rows[0]) - 1))


def _costs(run: FinishedRun) -> list[list[str]]:
    figures = {**run.record["training"], **run.record["inference"], **run.record.get("size_on_disk", {})}
    shown = {
        "trainable_parameters": ("trained parameters", count),
        "train_seconds": ("training", clock),
        "tokens_per_second": ("real tokens per second", count),
        "peak_memory_bytes": ("peak memory", size),
        "texts_per_second": ("texts per second, scored in batches", count),
        "seconds_per_text_alone": ("one text alone, median", lambda v: f"{1000 * v:,.3g} ms"),
        "model_bytes": ("model folder", size),
        "base_model_bytes": ("base model it needs beside that", size),
    }
    return [[words, form(figures[key])] for key, (words, form) in shown.items() if figures.get(key)]
