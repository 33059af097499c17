"""Sections beside joined columns at the same number of tokens: IPC sections of US patents, title and abstract, an encoder.

    python -m benchmarks.sections

The rows are those of benchmarks.patents_methods, their abstracts whole. Columns that are joined are cut as one text; with sections the
title stays whole and the abstract has the rest. A joined text whose beginning is read keeps its title anyway, and both are the same
tokens, so that way is measured once. Looks for us_patents_ipc in $SORTAL_DATA (or --data); stopped, the same command goes on. Writes
benchmarks/results/sections.json and sections.md.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.command import command
from benchmarks.paper.sets import write_set
from benchmarks.patents_methods import SAMPLE
from benchmarks.tables import p_value, points, span, table

RESULTS = Path(__file__).parent / "results"
SHARED: dict[str, Any] = {
    "label": "labels",
    "id": "id",
    "task": "single",
    "method": "encoder",
    "model": "minilm-l6",
    "max_length": 48,
    "epochs": 3,
    "metric_for_best_model": "accuracy",
    "threads": 1,
    "seed": 0,
}
JOINED: dict[str, Any] = {"text": ["title", "abstract"]}
SECTIONS: dict[str, Any] = {"sections": {"title": "all", "abstract": "rest"}}
BEGINNING, JOINED_END, TITLE_AND_END = (
    "joined, its beginning",
    "joined, its end",
    "title whole, the abstract's end",
)
WAYS: dict[str, dict[str, Any]] = {
    BEGINNING: {**JOINED, "truncation": "head"},
    JOINED_END: {**JOINED, "truncation": "tail"},
    TITLE_AND_END: {**SECTIONS, "truncation": "tail"},
}
METRICS = ("accuracy", "f1_macro")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/sections"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    from sortal.config import build_config
    from sortal.run import run

    files = column_files(Path(arguments.data), arguments.runs)
    for number, (way, settings) in enumerate(WAYS.items()):
        out = arguments.runs / f"way-{number}"
        run(build_config({**files, **SHARED, **settings, "out": str(out)}), resume=True)
        print(f"{way} is done", flush=True)
    keep(arguments.runs)


def column_files(data: Path, runs: Path) -> dict[str, str]:
    """The sampled rows with a column for the title and one for the abstract."""
    files = {}
    whole = replace(SAMPLE, words=None)
    for part, path in write_set("patents-sections", data, whole, runs / "data").items():
        lines = []
        for row in map(json.loads, Path(path).read_text(encoding="utf-8").splitlines()):
            title, _, abstract = row.pop("text").partition("\n")
            lines.append(json.dumps({**row, "title": title, "abstract": abstract}, ensure_ascii=False))
        columns = Path(path).with_name(f"{part}-columns.jsonl")
        columns.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files[part] = str(columns)
    return files


def keep(runs: Path) -> None:
    """Figures of every way and its test, in sections.json and sections.md."""
    from sortal.evaluation.predictions import read_predictions
    from sortal.evaluation.significance import compare_pairs

    rows: dict[str, dict[str, Any]] = {}
    saved = {}
    record: dict[str, Any] = {}
    for number, way in enumerate(WAYS):
        folder = runs / f"way-{number}"
        metrics, record = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "run"))
        saved[way] = [read_predictions(folder / "predictions.parquet")]
        training = record["training"]
        rows[way] = {
            **{key: [metrics[key], metrics["intervals"][key]] for key in METRICS},
            **{key: training[key] for key in ("tokens", "truncated_train_rows") if key in training},
            "pairs": {},
        }
    for metric in METRICS:
        pair = compare_pairs({way: saved[way] for way in (TITLE_AND_END, JOINED_END)}, metric)[0]
        rows[TITLE_AND_END]["pairs"][metric] = {
            "from": JOINED_END,
            "difference": pair.difference,
            "interval": pair.interval,
            "p": pair.p,
        }
    found = {
        "command": command("sections"),
        "rows": {part: entry["rows"] for part, entry in record["data"].items()},
        "settings": {key: SHARED[key] for key in ("model", "max_length", "epochs")},
        "ways": rows,
    }
    path = RESULTS / "sections.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(found), encoding="utf-8")


def markdown(found: dict[str, Any]) -> str:
    """The table of sections.md."""
    sizes, settings = found["rows"], found["settings"]
    columns = ["what is read of title and abstract", "accuracy", "from joined", "macro-F1", "from joined"]
    rows = []
    for way, row in found["ways"].items():
        cells = [way]
        for metric in METRICS:
            pair = row["pairs"].get(metric)
            gain = f"{points(pair['difference'], pair['interval'])}, {p_value(pair['p'])}" if pair else "–"
            cells += [span(*row[metric]), gain]
        rows.append(cells)
    lines = [
        "# Sections: the title whole, or columns joined",
        "",
        f"IPC sections (8) of US patents, {sizes['train']:,} training, {sizes['dev']:,} dev and {sizes['test']:,} test patents; {settings['model']}, {settings['max_length']} tokens of each, {settings['epochs']} epochs, one seed. "
        f"95 % bootstrap intervals; differences in points, paired over the test rows. `{found['command']}`",
        "",
        *table(columns, rows),
        "",
        "A joined text whose beginning is read keeps its title, and sections read the same tokens there.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
