"""A tree of labels learned flat, by levels and top-down, on a declared part of US patents (section, class, subclass).

    python -m benchmarks.hierarchy --methods tfidf encoder

Rows whose subclass has at least --least training rows; a seeded sample of --rows of them to train on, all such dev and test rows.
``encoder`` reads titles, ``tfidf`` titles and abstracts. Looks for the data set in $SORTAL_DATA (or --data); stopped, the same
command goes on. Writes benchmarks/results/hierarchy.json and hierarchy.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command import command
from benchmarks.tables import span, table

RESULTS = Path(__file__).parent / "results"
METHODS: dict[str, dict[str, Any]] = {
    "tfidf": {"method": "tfidf", "text": ("title", "abstract")},
    "encoder": {"method": "encoder", "text": ("title",), "max_length": 48},
}
MODES = ("flat", "levels", "conditional")
LEVELS = {"section": 1, "class": 3, "subclass": 4}
_COLUMNS = ("hierarchy", "subclass", "class", "section", "macro-F1", "hierarchical F1", "distance", "ECE")
FIGURES = ("accuracy", "f1_macro", "h_f1", "lca_distance", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    parser.add_argument("--least", type=int, default=40, help="training rows of a subclass")
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/hierarchy"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    files = part_files(arguments.data / "us_patents_ipc", arguments.runs, arguments.rows, arguments.least)
    for method in arguments.methods:
        for mode in MODES:
            cell(method, mode, files, arguments.runs)
    keep(arguments)


def part_files(source: Path, folder: Path, rows: int, least: int) -> dict[str, str]:
    """Parquet files of the three parts with a column per level."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {part: pq.read_table(source / f"{part}.parquet") for part in ("train", "dev", "test")}
    symbols = {part: table.column("main_ipc").to_pylist() for part, table in tables.items()}
    common = {code for code, n in Counter(s[:4] for s in symbols["train"]).items() if n >= least}
    files = {}
    for part, whole in tables.items():
        kept = np.flatnonzero([symbol[:4] in common for symbol in symbols[part]])
        if part == "train":
            kept = np.sort(np.random.default_rng(0).permutation(kept)[:rows])
        columns = {name: whole.column(name).take(pa.array(kept)) for name in ("title", "abstract")}
        columns |= {level: pa.array([symbols[part][i][:n] for i in kept]) for level, n in LEVELS.items()}
        path = folder / f"{part}-{rows}-{least}.parquet"
        pq.write_table(pa.table(columns), path)
        files["data" if part == "train" else part] = str(path)
    return files


def cell(method: str, mode: str, files: dict[str, str], folder: Path) -> None:
    """Train and measure once; nothing to do where that is done."""
    from sortal.config import build_config
    from sortal.run import run

    out = folder / f"{method}-{mode}"
    settings = {
        **files,
        **METHODS[method],
        "level_columns": tuple(LEVELS),
        "hierarchy": mode,
        "out": str(out),
    }
    with out.with_suffix(".log").open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        run(build_config(settings), resume=True, quiet=True)


def keep(arguments: argparse.Namespace) -> None:
    """Figures of every run, and how far each mode is from flat on the same rows."""
    found: dict[str, Any] = {"command": command("hierarchy"), "methods": {}}
    for method in arguments.methods:
        folders = {mode: arguments.runs / f"{method}-{mode}" for mode in MODES}
        metrics = {
            mode: json.loads((folder / "metrics.json").read_text()) for mode, folder in folders.items()
        }
        record = json.loads((folders["flat"] / "run.json").read_text())
        sums = {mode: row_sums(folder) for mode, folder in folders.items()}
        found["rows"] = {part: each["rows"] for part, each in record["data"].items()}
        found["nodes"] = [level["nodes"] for level in metrics["flat"]["levels"]]
        found["methods"][method] = {
            mode: {
                **{name: metrics[mode][name] for name in FIGURES},
                "intervals": {name: metrics[mode]["intervals"].get(name) for name in FIGURES},
                "levels": {level["level"]: level["accuracy"] for level in metrics[mode]["levels"]},
                "minus_flat": {} if mode == "flat" else difference(sums[mode], sums["flat"]),
            }
            for mode in MODES
        }
    path = RESULTS / "hierarchy.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))


def row_sums(folder: Path) -> np.ndarray[Any, Any]:
    """Per test row: whether the subclass is right, nodes in common, and nodes of gold label and answer together; ``[3, n]``."""
    from sortal.classifier import load
    from sortal.evaluation.predictions import read_predictions

    space = load(folder / "model").label_space
    rows = read_predictions(folder / "predictions.parquet")
    assert space.tree is not None
    assert rows.gold is not None
    ways = [set(space.tree.path(name)) for name in space.names]
    pairs = list(zip(rows.gold.tolist(), rows.predicted.tolist(), strict=True))
    return np.array(
        [
            [float(gold == said) for gold, said in pairs],
            [len(ways[gold] & ways[said]) for gold, said in pairs],
            [len(ways[gold]) + len(ways[said]) for gold, said in pairs],
        ]
    )


def difference(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    """Accuracy and hierarchical F1 of ``a`` less those of ``b``: value and 95 % bootstrap interval over rows."""
    from sortal.evaluation.intervals import bootstrap, percentile_interval

    n = a.shape[1]
    figures: dict[str, Callable[..., Any]] = {
        "accuracy": lambda sums: sums[0] / n,
        "h_f1": lambda sums: 2 * sums[1] / sums[2],
    }
    drawn = bootstrap(lambda w: {k: f(a @ w) - f(b @ w) for k, f in figures.items()}, n, 2000, 0)
    return {
        name: [float(f(a.sum(1)) - f(b.sum(1))), *(percentile_interval(drawn[name]) or [])]
        for name, f in figures.items()
    }


def markdown(found: dict[str, Any]) -> str:
    rows, nodes = found["rows"], found["nodes"]
    lines = [
        "# A tree of labels: US patents by section, class and subclass",
        "",
        f"{rows['train']:,} training, {rows['dev']:,} dev and {rows['test']:,} test rows; {nodes[0]} sections, {nodes[1]} classes, {nodes[2]} subclasses. "
        f"Test rows, 95 % intervals, one seed. `{found['command']}`",
    ]
    for method, modes in found["methods"].items():
        by_mode = []
        for mode, f in modes.items():
            subclass, h_f1 = (span(f[name], f["intervals"][name]) for name in ("accuracy", "h_f1"))
            plain = (f["levels"]["class"], f["levels"]["section"], f["f1_macro"])
            figures = [subclass, *(f"{value:.3f}" for value in plain), h_f1]
            by_mode.append([mode, *figures, f"{f['lca_distance']:.2f}", f"{f['ece']:.3f}"])
        lines += ["", f"## {method}", "", *table(_COLUMNS, by_mode), ""]
        for mode, f in modes.items():
            for name, (value, low, high) in f["minus_flat"].items():
                lines.append(
                    f"- {mode} less flat, {'subclass accuracy' if name == 'accuracy' else 'hierarchical F1'}: {value:+.3f} [{low:+.3f}, {high:+.3f}]"
                )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
