"""Terminal views of ``metrics.json``: compact rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

TITLES = {
    "accuracy": "accuracy",
    "coverage": "coverage",
    "selective_accuracy": "accuracy when answering",
    "f1_micro": "F1 micro",
    "f1_macro": "F1 macro",
    "f1_weighted": "F1 weighted",
    "f1_samples": "F1 per row",
    "subset_accuracy": "all labels right",
    "map": "mean average precision",
    "h_precision": "hierarchical precision",
    "h_recall": "hierarchical recall",
    "h_f1": "hierarchical F1",
    "lca_distance": "distance in the tree",
    "ece": "calibration error (ECE)",
    "log_loss": "log loss",
}
LEVEL_TITLES = {"accuracy": "accuracy", "f1_micro": "F1 micro", "f1_macro": "F1 macro"}
_LABEL_WIDTH = 40


def _table(title: str, left: Sequence[str], right: Sequence[str], caption: str = "") -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", caption=caption or None, caption_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1),
    )  # fmt: skip
    for name in left:
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=_LABEL_WIDTH)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Every headline figure with its 95 % interval."""
    caption = ""
    if missing := metrics.get("labels_without_rows"):
        caption = f"{missing} of {metrics['n_labels']} labels have no rows and no predictions here; they count as 0 in F1 macro"
    table = _table(
        f"{metrics['n']:,} rows, {metrics['n_labels']:,} labels",
        ["metric"],
        ["value", "95 % interval"],
        caption,
    )
    for name, title in TITLES.items():
        value = metrics.get(name)
        if value is None:
            continue
        interval = metrics["intervals"].get(name)
        span = "" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"
        table.add_row(title, f"{value:.3f}", span)
    return table


def levels_table(metrics: Mapping[str, Any]) -> Table:
    """Figures of every level of a tree of labels, the top one first."""
    table = _table("By level of the tree", ["level", "figure"], ["nodes", "rows", "value", "95 % interval"])
    for level in metrics["levels"]:
        head = [_label(level["level"]), f"{level['nodes']:,}", f"{level['rows']:,}"]
        for name in [name for name in LEVEL_TITLES if name in level]:
            value, interval = level[name], level["intervals"].get(name)
            table.add_row(
                head[0],
                LEVEL_TITLES[name],
                *head[1:],
                "–" if value is None else f"{value:.3f}",
                "" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}",
            )
            head = ["", "", ""]  # said once
    return table


def confusion_excerpt(metrics: Mapping[str, Any], k: int = 8) -> Table:
    """The ``k`` most frequent confusions, with the share of the gold label's rows they take."""
    support = {entry["label"]: entry["support"] for entry in metrics["per_label"]}
    table = _table("Most frequent confusions", ["gold", "predicted instead"], ["rows", "of gold"])
    for pair in metrics.get("confusions", [])[:k]:
        share = pair["count"] / max(support[pair["gold"]], 1)
        table.add_row(_label(pair["gold"]), _label(pair["predicted"]), str(pair["count"]), f"{share:.0%}")
    return table


def worst_labels(metrics: Mapping[str, Any], k: int = 8) -> Table:
    """The ``k`` labels with the lowest F1 among those with gold rows."""
    multi = metrics["task"] == "multi"
    columns = ["F1", "precision", "recall", "rows"] + ["threshold"] * multi
    table = _table("Labels with the lowest F1", ["label"], columns)
    entries = sorted(
        (e for e in metrics["per_label"] if e["support"]), key=lambda e: (e["f1"], -e["support"])
    )
    for e in entries[:k]:
        cells = [f"{e['f1']:.3f}", f"{e['precision']:.3f}", f"{e['recall']:.3f}", f"{e['support']:,}"]
        table.add_row(_label(e["label"]), *cells, *([f"{e['threshold']:.3f}"] if multi else []))
    return table


def coverage_table_view(rows: Sequence[Mapping[str, Any]], abstain_below: float | None = None) -> Table:
    """`coverage_table` as a table; the rung in use, if any, is marked."""
    table = _table(
        "Abstaining below a probability",
        ["abstain below"],
        ["answered", "coverage", "accuracy when answering"],
    )
    for row in rows:
        accuracy = "–" if row["accuracy"] is None else f"{row['accuracy']:.3f}"
        mark = " ◂" if abstain_below is not None and row["abstain_below"] == abstain_below else ""
        table.add_row(
            f"{row['abstain_below']:.2f}{mark}", f"{row['answered']:,}", f"{row['coverage']:.1%}", accuracy
        )
    return table


def _label(name: str) -> str:
    # A label is data: "[red]" must not become a style, nor a newline a second line.
    return escape(" ".join(name.split()) or repr(name))
