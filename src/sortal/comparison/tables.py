"""A comparison for the eye: the live state of its cells, what methods reach and cost, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sortal.comparison.advice import listed
from sortal.comparison.names import is_seedless
from sortal.comparison.results import Comparison, MethodSummary
from sortal.comparison.units import clock, count, size
from sortal.evaluation.significance import OF_SEEDS
from sortal.evaluation.words import left_out, test_rows, twins
from sortal.markdown import safe, table

_SIGNS = {"waiting": "·", "running": "▶", "finished": "✓", "failed": "✗", "stopped": "…"}
_STYLES = {"running": "bold", "finished": "green", "failed": "red", "waiting": "dim", "stopped": "yellow"}
WITHOUT_TWINS = "without test rows that have a twin in train or dev"
_QUALITY = {
    "accuracy": "accuracy",
    "subset_accuracy": "all labels right",
    "f1_micro": "F1 micro",
    "f1_macro": "F1 macro",
    "ece": "ECE",
}


def cells_table(
    records: Sequence[Mapping[str, Any]], metric: str, now: Mapping[str, str] | None = None
) -> Table:
    """One line per cell; ``now``: what running ones are doing, by name."""
    table = _table("cells", ["", "method", "seed"], [metric, "training", ""])
    for record in records:
        status, note = record["status"], record.get("reason", "")
        value, seconds = record.get("metrics", {}).get(metric), record.get("cost", {}).get("train_seconds")
        if status == "running":
            note = (now or {}).get(record["name"], "")
        elif status == "stopped":
            note = "stopped; goes on at the next call"
        table.add_row(
            Text(_SIGNS[status], _STYLES[status]),
            record["method"],
            str(record["seed"]),
            "" if value is None else f"{value:.3f}",
            "" if seconds is None else clock(seconds),
            Text(note, "red" if status == "failed" else ""),
        )
    table.columns[-1].justify = "left"
    return table


def quality_table(found: Comparison) -> Table:
    """How good every method is, best first; means over its runs."""
    return _filled(
        f"{test_rows(found.n, found.groups)}; {found.metric} with 95 % intervals; means over runs",
        quality_rows(found),
    )


def cost_table(found: Comparison) -> Table:
    """What every method costs, in the same order."""
    return _filled("cost; means over runs", cost_rows(found))


def pairs_table(found: Comparison) -> Table:
    """Every two methods: difference, interval, corrected p, and what follows."""
    table = _filled("pairs; p corrected for their number (Holm)", pair_rows(found))
    table.columns[-1].justify = "left"
    return table


def quality_rows(found: Comparison) -> list[list[str]]:
    """Header and one row of words per method, best first."""
    others = [key for key in found.methods[0].quality if key != found.metric]
    if "accuracy" in found.methods[0].quality:  # with one label per row, micro-F1 is accuracy again
        others = [key for key in others if key != "f1_micro"]
    rows = [["method", "runs", found.metric, "95 % interval", *(_QUALITY[key] for key in others)]]
    for m in _ranked(found):
        span = "" if m.interval is None else "{:.3f} – {:.3f}".format(*m.interval)
        figures = (f"{m.quality[key]:.3f}" if key in m.quality else "" for key in others)
        rows.append([m.method, str(m.runs), f"{m.value:.3f}", span, *figures])
    return rows


def cost_rows(found: Comparison) -> list[list[str]]:
    """Header and one row of words per method; columns that no method fills are left out.

    trained: parameters; one text: median time when texts come one by one; disk: the model's own files and its base.
    """
    columns = ["method", "trained", "training", "tok/s", "texts/s", "one text", "memory", "disk"]
    rows = [_cost_row(m) for m in _ranked(found)]
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    return [[row[i] for i in kept] for row in (columns, *rows)]


def _cost_row(summary: MethodSummary) -> list[str]:
    def shown(key: str, form: Callable[[float], str]) -> str:
        return form(summary.cost[key]) if key in summary.cost else ""

    return [
        summary.method,
        shown("trainable_parameters", count),
        shown("train_seconds", clock),
        shown("tokens_per_second", count),
        shown("texts_per_second", count),
        shown("seconds_per_text_alone", lambda v: f"{1000 * v:,.3g} ms"),
        shown("peak_memory_bytes", size),
        size(summary.cost["model_bytes"] + summary.cost.get("base_model_bytes", 0)),
    ]


def _ranked(found: Comparison) -> list[MethodSummary]:
    return sorted(found.methods, key=lambda summary: -summary.value)


def pair_rows(found: Comparison) -> list[list[str]]:
    """Header and one row of words per pair."""
    rows = [["pair", "difference", "95 % interval", "p (Holm)", "result"]]
    for pair in found.pairs:
        span = "" if pair.interval is None else "{:+.1f} to {:+.1f}".format(*(100 * b for b in pair.interval))
        p = "" if pair.p_holm is None else "< 0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}"
        result = (
            "too few test rows"
            if pair.p is None
            else f"{pair.winner} is better"
            if pair.winner
            else "not told apart"
        )
        rows.append([f"{pair.a} − {pair.b}", f"{100 * pair.difference:+.1f} points", span, p, result])
    return rows


def twins_table(found: Comparison) -> Table:
    """The compared metric without test rows that have a twin in train or dev."""
    return _filled(f"{found.metric} {WITHOUT_TWINS}", twins_rows(found))


def twins_rows(found: Comparison) -> list[list[str]]:
    """Header and one row of words per method, best on all rows first; only the header where no row has a twin or all have."""
    rows = [["method", "all rows", "without twins", "95 % interval", "twins add", "95 % interval"]]
    if (clean := found.without_twins) is None:
        return rows
    for m in _ranked(found):
        if m.method not in clean.values:
            continue
        span, added = clean.intervals[m.method], clean.added_intervals[m.method]
        rows.append(
            [
                m.method,
                f"{m.value:.3f}",
                f"{clean.values[m.method]:.3f}",
                "" if span is None else f"{span[0]:.3f} – {span[1]:.3f}",
                f"{100 * clean.added[m.method]:+.1f} points",
                "" if added is None else "{:+.1f} to {:+.1f}".format(*(100 * end for end in added)),
            ]
        )
    return rows


def slices_table(found: Comparison) -> Table:
    """The compared metric on kinds of rows."""
    return _filled(f"{found.metric} on kinds of rows", slice_rows(found))


def slice_rows(found: Comparison) -> list[list[str]]:
    """Header and one row of words per kind of test rows, methods best first."""
    names = [summary.method for summary in _ranked(found)]
    rows = [["kind of rows", "rows", *names]]
    for part in found.mistakes.slices:
        rows.append([part.name, f"{part.rows:,}", *(f"{part.values[name]:.3f}" for name in names)])
    return rows


def missed_table(found: Comparison, most: int) -> Table:
    """The first rows that every method misses, as candidates for wrong labels."""
    rows = missed_rows(found, most, 60)
    table = _filled(f"{found.mistakes.missed:,} rows that every method misses: look for wrong labels", rows)
    for column in table.columns:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    return table


def missed_rows(found: Comparison, most: int, width: int) -> list[list[str]]:
    """Header and one row of words per text that every method misses, cut to ``width`` characters."""
    names = list(found.mistakes.rows[0].answers) if found.mistakes.rows else []
    rows = [["row", "text", "gold", *names]]
    for row in found.mistakes.rows[:most]:
        text = " ".join(row.text.split())
        shown = text if len(text) <= width else f"{text[: width - 1]}…"
        rows.append([row.id, shown, ", ".join(row.gold), *(", ".join(row.answers[name]) for name in names)])
    return rows


def notes(found: Comparison) -> list[str]:
    """What the figures cannot tell, each sentence once, and how small a difference the rows could show."""
    said = [note for pair in found.pairs for note in pair.notes]
    lines = [note for note in said if not note.startswith(OF_SEEDS)]
    if len(lines) < len(said):
        lines = [*_of_seeds(found), *lines]
    if powers := [pair for pair in found.pairs if pair.power]:
        lines.append(min(powers, key=lambda pair: abs(pair.difference)).power)  # where it matters most
    if found.without_twins is not None and found.without_twins.rows:
        lines.append(twins(found.without_twins.to_json()))
    if found.left_out is not None:
        lines.append(left_out(found.left_out))
    if found.jobs > 1:
        lines.append(
            f"Up to {found.jobs} runs shared this machine: a run alone takes less time than is said here."
        )
    return list(dict.fromkeys(lines))


def _of_seeds(found: Comparison) -> list[str]:
    """What is said of every pair about the seeds of its two methods, once for all methods."""
    seeded = [summary for summary in found.methods if not is_seedless(summary.method)]
    once, twice = ([summary.method for summary in seeded if summary.runs == runs] for runs in (1, 2))
    lines = []
    if once and len(once) == len(seeded):
        lines.append(
            "one training run of each method: the result is about these trained models; how much another seed would change it cannot be tested"
        )
    elif once:
        lines.append(
            f"one training run of {listed(once)}: how much another seed would change cannot be tested"
        )
    if twice:
        lines.append(f"two training runs of {listed(twice)} say little about seeds: use three or more")
    return lines


def markdown(found: Comparison, command: str) -> str:
    """The same tables for a file."""
    lines = ["# Comparison", "", f"`{command}`", "", *found.advice, ""]
    for title, rows in _sections(found):
        if len(rows) > 1:
            lines += [f"## {title}", "", *table(rows[0], rows[1:], "l" * len(rows[0])), ""]
    failed = [f"- {r['name']}: {safe(r['reason'])}" for r in found.cells if r["status"] == "failed"]
    if failed:
        lines += ["## Failed", "", *failed, ""]
    if said := notes(found):
        lines += ["## Notes", "", *(f"- {note}" for note in said), ""]
    return "\n".join(lines)


def _sections(found: Comparison) -> list[tuple[str, list[list[str]]]]:
    if not found.methods:
        return []
    return [
        ("Quality", quality_rows(found)),
        ("Cost", cost_rows(found)),
        ("Pairs", pair_rows(found)),
        (f"{found.metric} {WITHOUT_TWINS}", twins_rows(found)),
        ("Kinds of rows", slice_rows(found)),
        (f"Rows that every method misses: {found.mistakes.missed:,}", missed_rows(found, 20, 160)),
    ]


def _filled(title: str, rows: Sequence[Sequence[str]]) -> Table:
    filled = _table(title, rows[0][:1], rows[0][1:])
    for row in rows[1:]:
        filled.add_row(*map(_cell, row))
    return filled


def _cell(words: str) -> Text:
    """Texts and labels are data: neither "[red]" nor an escape sequence in them is for the terminal."""
    return Text("".join(c if c.isprintable() else "·" for c in " ".join(words.split())))


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1)
    )  # fmt: skip
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right")
    return table
