"""Terminal views of ``metrics.json``: compact rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from sortal.evaluation.ranked import AT, MANY

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
    "main_first": "main label is the first guess",
    "main_in_three": "main label in the first three",
    "first_in_all": "first guess is any right label",
    "preferential": "preferential score",
}
RANKED_TITLES = {
    "accuracy_at_{}": "right label among the first {}",
    "p_at_{}": "precision at {}",
    "r_at_{}": "recall at {}",
    "ndcg_at_{}": "nDCG at {}",
    "psp_at_{}": "propensity-scored precision at {}",
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
    captions = []
    if missing := metrics.get("labels_without_rows"):
        captions.append(
            f"{missing} of {metrics['n_labels']} labels have no rows and no predictions here; they count as 0 in F1 macro"
        )
    if empty := metrics.get("rows_without_labels"):
        captions.append(
            f"{empty:,} of {metrics['n']:,} rows have no label and were given none, which is right; they count as 0 in F1 per row"
        )
    table = _table(
        f"{metrics['n']:,} rows, {metrics['n_labels']:,} labels",
        ["metric"],
        ["value", "95 % interval"],
        "\n".join(captions),
    )
    for name, title in TITLES.items():
        value = metrics.get(name)
        if value is None:
            continue
        interval = metrics["intervals"].get(name)
        span = "" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"
        table.add_row(title, f"{value:.3f}", span)
    return table


def members_table(
    members: Sequence[tuple[str, float, Mapping[str, Any]]], metrics: Mapping[str, Any]
) -> Table:
    """Members of an ensemble, (method, weight, metrics) each, above the figures of their sum on the same test rows."""
    names = ["accuracy" if "accuracy" in metrics else "f1_micro", "f1_macro", "log_loss"]
    table = _table(
        "Added up",
        ["member"],
        ["weight", *(TITLES[name] for name in names)],
        "sortal compare tests such differences",
    )
    for method, weight, found in [*members, ("together", 1.0, metrics)]:
        if method == "together":
            table.add_section()
        table.add_row(method, f"{weight:.2f}", *(f"{found[name]:.3f}" for name in names))
    return table


def twins_table(metrics: Mapping[str, Any]) -> Table:
    """The figures without test rows that have a twin in train or dev; `twin_rows` as a table."""
    header, *rows = twin_rows(metrics["without_twins"], metrics)
    table = _table(
        f"{metrics['without_twins']['n']:,} rows, without those that have a twin in train or dev",
        header[:1],
        header[1:],
    )
    for row in rows:
        table.add_row(*row)
    return table


def twin_rows(without: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[list[str]]:
    """Header and one row of words per figure: on all rows, on those without a twin, and what the twins add.

    Args:
        without: of `without_rows`.
        metrics: figures on all rows.
    """
    rows = [["metric", "all rows", "without twins", "95 % interval", "twins add", "95 % interval"]]
    for name, value in without["figures"].items():
        if name == "f1_micro" and "accuracy" in without["figures"]:  # the same figure again
            continue
        added = without["differences"][name]
        interval = without["intervals"].get(name)
        rows.append(
            [
                TITLES[name],
                f"{metrics[name]:.3f}",
                f"{value:.3f}",
                "" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}",
                f"{100 * added['value']:+.1f} points",
                "" if added["interval"] is None else "{:+.1f} to {:+.1f}".format(*(100 * end for end in added["interval"])),
            ]
        )  # fmt: skip
    return rows


def ranked_rows(metrics: Mapping[str, Any]) -> list[tuple[str, float, list[float] | None]]:
    """Title, value and interval of every figure of the first labels that ``metrics`` has."""
    found = []
    for form, title in RANKED_TITLES.items():
        for k in AT:
            if (value := metrics.get(form.format(k))) is not None:
                found.append((title.format(k), float(value), metrics["intervals"].get(form.format(k))))
    return found


def many_labels_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """With more than `MANY` labels: how good the first labels are, and macro-F1 by training rows; otherwise nothing."""
    if metrics["n_labels"] <= MANY:
        return []
    first = _table("The first labels, without thresholds", ["metric"], ["value", "95 % interval"])
    for title, value, interval in ranked_rows(metrics):
        first.add_row(
            title, f"{value:.3f}", "" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"
        )
    tables = [first] if first.row_count else []
    if metrics.get("bands"):
        by_band = _table("F1 macro by training rows", ["training rows"], ["labels", "with test rows", "F1 macro", "of those with test rows"])  # fmt: skip
        for band in metrics["bands"]:
            own = band["f1_macro_with_test_rows"]
            by_band.add_row(
                band["training_rows"],
                f"{band['labels']:,}",
                f"{band['labels_with_test_rows']:,}",
                f"{band['f1_macro']:.3f}",
                "–" if own is None else f"{own:.3f}",
            )
        tables.append(by_band)
    return tables


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
