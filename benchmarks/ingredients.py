"""The tables of docs/how-to/patents.md out of the committed results: all methods by level, and the gain of each ingredient.

    python -m benchmarks.ingredients

Measures nothing: every figure is one of rare_labels.json, sections.json, long_texts.json, hierarchy.json or patents.json in
benchmarks/results. Writes the tables into the page, each between two comments.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.patents_tables import METRICS
from benchmarks.tables import p_value, points, span, table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "how-to" / "patents.md"
END = "<!-- end -->"
_NAMES = {"f1_micro": "micro-F1", "f1_macro": "macro-F1", "accuracy": "accuracy", "h_f1": "hierarchical F1"}


def main() -> None:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def written(page: str) -> str:
    """``page`` with the tables of now between their comments."""
    for name, lines in (("methods", methods()), ("ingredients", ingredients())):
        before, rest = page.split(f"<!-- {name}: python -m benchmarks.ingredients -->")
        begin = page[len(before) : len(page) - len(rest)]
        after = rest.split(END, 1)[1]
        page = "\n".join([before + begin, "", *lines, "", END + after])
    return page


def methods() -> list[str]:
    """Every method by level, on the part of the rows."""
    levels = _read("patents")["part"]["levels"]
    names = list(dict.fromkeys(row["method"] for found in levels.values() for row in found["results"]))
    head = [f"{level} ({found['labels']}), {_NAMES[METRICS[level][0]]}" for level, found in levels.items()]
    rows = []
    for name in names:
        cells = []
        for level, found in levels.items():
            values = [row[METRICS[level][0]] for row in found["results"] if row["method"] == name]
            cells.append(span(*values[0]) if values else "–")
        rows.append([f"`{name}`", *cells])
    lines = table(["", *head], rows)
    missing = any("–" in cells for cells in rows)
    return [*lines, "", "A dash is a run that has not been made yet."] if missing else lines


def ingredients() -> list[str]:
    """What one change gains, line by line."""
    head = ["ingredient", "measured on", "figure", "without", "with", "difference in points"]
    return table(head, [*thresholds(), *losses(), *sections(), *windows(), *trees(), *blend()])


def thresholds() -> Iterator[list[str]]:
    """Tuned for macro-F1; the results hold every way against the global one."""
    found = _read("rare_labels")["patents-subclasses"]
    rows = {row["name"]: row for row in found["results"] if row["tuned_for"] == "f1_macro"}
    plain, one, own = (rows[name] for name in ("none (0.5)", "global", "per_label (shrunk, 10)"))
    on = f"`tfidf`, {found['labels']} subclasses"
    for metric in ("f1_micro", "f1_macro"):
        pair = plain["pairs"][metric]
        gain = {**pair, "difference": -pair["difference"]}
        yield _row("one threshold, tuned on dev, instead of 0.5", on, metric, plain, one, gain)
    for metric in ("f1_micro", "f1_macro"):
        yield _row("a threshold per label, shrunk", on, metric, one, own, own["pairs"][metric])


def losses() -> Iterator[list[str]]:
    """Each against BCE."""
    found = _read("rare_labels")["losses"]
    plain, *others = found["results"]
    on = f"`encoder`, {found['labels']} subclasses"
    for metric in ("f1_micro", "f1_macro"):
        for row in others:
            setting = ", ".join(f"{key}={value}" for key, value in row["settings"].items())
            yield _row(f"`{setting}`", on, metric, plain, row, row["pairs"][metric])


def sections() -> Iterator[list[str]]:
    """The title kept whole against the same number of tokens of title and abstract joined."""
    found = _read("sections")
    on = f"`encoder`, 8 sections, {found['settings']['max_length']} tokens"
    for way, row in found["ways"].items():
        if pair := row["pairs"].get("accuracy"):
            other = found["ways"][pair["from"]]
            gain = {**pair, "p_holm": pair["p"]}  # the only test
            yield _row(f"sections: {way}, instead of {pair['from']}", on, "accuracy", other, row, gain)


def windows() -> Iterator[list[str]]:
    """Several windows against the first tokens."""
    found = _read("long_texts")["variants"]
    (plain, cut), *others = found.items()
    for way, row in others:
        pair = row[f"accuracy_beside_{plain}"]
        yield [
            way,
            "`encoder`, 20 Newsgroups (not patents)",
            "accuracy",
            f"{cut['accuracy']:.3f}",
            f"{row['accuracy']:.3f}",
            _gain(pair),
        ]


def trees() -> Iterator[list[str]]:
    """Levels at once and top-down against flat."""
    found = _read("hierarchy")
    for method, modes in found["methods"].items():
        for mode in ("levels", "conditional"):
            value, *interval = modes[mode]["minus_flat"]["h_f1"]
            gain = _gain({"difference": value, "interval": interval, "p_holm": None})
            on = f"`{method}`, {found['nodes'][-1]} subclasses"
            shown = [f"{modes[name]['h_f1']:.3f}" for name in ("flat", mode)]
            yield [f"`--hierarchy {mode}` instead of flat", on, _NAMES["h_f1"], *shown, gain]


def blend() -> Iterator[list[str]]:
    """A tuned model against TF-IDF, and both together against the model."""
    patents = _read("patents")
    for task, metric in (("sections", "accuracy"), ("subclasses", "f1_micro")):
        found = patents[task]
        rows = {row["method"]: row for row in found["results"]}
        pairs = {(pair["a"], pair["b"]): pair for pair in found["tests"] if pair["metric"] == metric}
        for name, a, b in (
            ("`head` instead of `tfidf`", "tfidf", "head"),
            ("`blend=tfidf`", "head", "head+tfidf"),
        ):
            pair = pairs[a, b]
            low, high = pair["interval"]
            gain = {**pair, "difference": -pair["difference"], "interval": [-high, -low]}
            yield _row(name, f"all rows, {found['labels']} {task}", metric, rows[a], rows[b], gain)


def _row(
    name: str, on: str, metric: str, before: dict[str, Any], after: dict[str, Any], pair: dict[str, Any]
) -> list[str]:
    values = [f"{row[metric][0]:.3f}" for row in (before, after)]
    return [name, on, _NAMES[metric], *values, _gain(pair)]


def _gain(pair: dict[str, Any]) -> str:
    """The difference with its p, corrected where there are several tests, or its interval where none was made."""
    if pair["p_holm"] is None:
        return points(pair["difference"], pair["interval"])
    return f"{points(pair['difference'])}, {p_value(pair['p_holm'])}"


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
