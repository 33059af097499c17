"""patents.json and patents.md: all rows by task, and all methods on a part of the rows by level of the tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.tables import span, table

RESULTS = Path(__file__).parent / "results"
METRICS = {
    "sections": ("accuracy", "f1_macro"),
    "classes": ("accuracy", "f1_macro"),
    "subclasses": ("f1_micro", "f1_macro"),
    "groups": ("f1_micro", "f1_macro"),
}
AT = ("p_at_1", "p_at_3", "p_at_5", "r_at_5", "ndcg_at_5", "psp_at_1", "psp_at_5")  # with several labels
_COSTS = ("cost", "training", "tokens trained on", "real tokens/s", "tuned parameters", "peak memory", "texts/s", "settings")  # fmt: skip
_PART = "part"


def keep(task: str, found: dict[str, Any]) -> None:
    """Add or replace a task on all rows in patents.json, and write patents.md."""
    kept = read()
    kept[task] = found
    _write(kept)


def keep_level(about: dict[str, Any], level: str, found: dict[str, Any]) -> None:
    """Add or replace a level of the part of the rows; ``about`` says which part that is."""
    kept = read()
    levels = {**kept.get(_PART, {}).get("levels", {}), level: found}
    kept[_PART] = {**about, "levels": {name: levels[name] for name in METRICS if name in levels}}
    _write(kept)


def read() -> dict[str, Any]:
    """What patents.json holds."""
    path = RESULTS / "patents.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _write(kept: dict[str, Any]) -> None:
    path = RESULTS / "patents.json"
    kept = {name: kept[name] for name in (*METRICS, _PART) if name in kept}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(kept), encoding="utf-8")


def markdown(kept: dict[str, Any]) -> str:
    """The tables of all tasks and levels."""
    lines = [
        "# US patents: a small model, TF-IDF, and both",
        "",
        "`head` on the first 12 of the 30 layers of smollm2-135m (de-quantised from 4 bits), read at the mean, blended with `tfidf`. One seed; 95 % bootstrap intervals over test rows;"
        " paired tests, corrected over the pairs of a metric (Holm). Not WIPO-alpha.",
    ]
    for task in METRICS:
        if task in kept:
            lines += _task(task, kept[task])
    if _PART in kept:
        lines += _part(kept[_PART])
    return "\n".join(lines) + "\n"


def _task(task: str, found: dict[str, Any]) -> list[str]:
    sizes, settings, training = found["rows"], found["settings"], found["training"]
    lines = [
        "",
        f"## {task}",
        "",
        f"{sizes['train']:,} training, {sizes['dev']:,} dev and {sizes['test']:,} test patents (title and abstract), {found['labels']:,} labels. max_length {settings['max_length']}, {settings['epochs']} epochs:"
        f" {training['train_seconds'] / 60:.0f} min on one shared core, {training['tokens_per_second']:,.0f} real tokens/s; {training['trainable_parameters'] / 1e6:.1f} M of {training['parameters'] / 1e6:.0f} M parameters tuned."
        f" Share of tfidf in the blend: {found['tfidf_share']:.2f}. `{found['command']}`",
        "",
    ]
    lines += _scores(task, found)
    if ranked := found["results"][0].get("ranked"):
        rows = [[row["method"], *(span(*row["ranked"][key]) for key in ranked)] for row in found["results"]]
        lines += ["", *table(["first labels", *ranked], rows)]
    return [*lines, "", *(f"- {pair['verdict']}" for pair in found["tests"])]


def _scores(task: str, found: dict[str, Any]) -> list[str]:
    """Two tables of every method: its figures at the task's level and above, and by how frequent labels are."""
    results = found["results"]
    several = METRICS[task][0] == "f1_micro"
    above = list(results[0].get("levels", {}))[:-1]  # the last one is the level itself
    head = ["method", *METRICS[task], *(f"{'micro-F1' if several else 'accuracy'}, {name}" for name in above)]
    ranges = [f"{band} training rows ({n:,})" for band, (n, *_) in results[0]["bands"].items()]
    scores, by_range = [], []
    for row in results:
        figures = [*(row[key] for key in METRICS[task]), *(row["levels"][name] for name in above)]
        scores.append([row["method"], *map(_figure, figures), f"{row['ece']:.4f}"])
        by_range.append([row["method"], *(_figure(each) for _, *each in row["bands"].values())])
    lines = table([*head, "ECE"], scores)
    return [*lines, "", *table(["macro-F1 of labels with", *ranges], by_range)] if ranges else lines


def _figure(value: Any) -> str:
    """A value with its interval; those by level and frequency of the first runs on all rows have none."""
    value, *interval = value if isinstance(value, list) else [value]
    return span(value, interval[0]) if interval else f"{value:.3f}"


def _part(part: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## All methods on a part of the rows",
        "",
        f"{part['about']} `{part['command']}`",
    ]
    for level, found in part["levels"].items():
        rows = found["rows"]
        lines += [
            "",
            f"### {level}, all methods",
            "",
            f"{rows['train']:,} training, {rows['dev']:,} dev and {rows['test']:,} test patents, {found['labels']} labels.",
            "",
        ]
        lines += [*_scores(level, found), ""]
        lines += [*table(_COSTS, map(_cost, found["results"])), ""]
        lines += [f"- {pair['verdict']}" for pair in found["tests"] if pair["metric"] == METRICS[level][0]]
    return lines


def _cost(row: dict[str, Any]) -> list[str]:
    """What a run took; "–" where the method has no such thing."""
    cost = row["cost"]

    def shown(key: str, form: str, scale: float = 1.0) -> str:
        return form.format(cost[key] / scale) if cost.get(key) is not None else "–"

    settings = ", ".join(f"{key} {value}" for key, value in row["settings"].items())
    if row["method"] == "probe":
        settings += f" (chosen: layer {cost['layer']}, template {cost['template']})"
    if "shortlist_recall" in cost:
        settings += f" ({100 * cost['shortlist_recall']:.0f} % of the dev labels are in it)"
    return [
        row["method"],
        shown("train_seconds", "{:.1f} min", 60),
        shown("tokens", "{:,.0f}"),
        shown("tokens_per_second", "{:,.0f}"),
        shown("trainable_parameters", "{:.1f} M", 1e6),
        shown("peak_memory_bytes", "{:.1f} GB", 1e9),
        shown("texts_per_second", "{:,.0f}"),
        settings or "–",
    ]
