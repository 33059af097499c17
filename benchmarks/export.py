"""Real models written for every runtime, and how far their answers are from Sortal's.

    pip install -e '.[dev]'
    python -m benchmarks.export --head runs/quality/banking77-smollm2-135m-0/model --instruct runs/quality/banking77-instruct-smollm2-135m-0/model --rows 200

Each model folder is exported to each format that holds it, by `sortal.export`, with the rows of its own run; nothing is left on the disk. `--max-difference 1` lets
every export through, so that the table shows what coarse weights cost. Rows are added to what earlier calls measured of other models and settings.
Reported: how many decisions are Sortal's with fp32 arithmetic, the largest difference of a probability, the same beside `sortal predict` in the run's own dtype, size and seconds.
Writes benchmarks/results/export.json and export.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import sortal
from sortal.errors import SortalError
from sortal.provenance import versions

KINDS = ("head", "probe", "encoder", "instruct")
RESULTS = Path(__file__).parent / "results"
CLASSIFIER: tuple[dict[str, Any], ...] = (
    {"to": "hf"},
    {"to": "hf", "dtype": "float16"},
    {"to": "hf", "dtype": "bfloat16"},
    {"to": "vllm"},
    {"to": "adapter"},
    {"to": "onnx"},
    {"to": "onnx", "int8": True},
)
LANGUAGE: tuple[dict[str, Any], ...] = (
    {"to": "hf"},
    {"to": "vllm"},
    {"to": "adapter"},
    {"to": "gguf"},
    {"to": "gguf", "dtype": "float16"},
    {"to": "gguf", "int8": True},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=Path, action="append", default=[], metavar="MODEL_DIR")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--only", nargs="*", help="formats, as in the table: hf float32, onnx int8 …")
    parser.add_argument("--note", default="", help="what else the machine did, for the report")
    arguments = parser.parse_args()
    for folder in (each for kind in KINDS for each in getattr(arguments, kind)):
        for asked in LANGUAGE if folder in arguments.instruct else CLASSIFIER:
            name = f"{asked['to']} {'int8' if asked.get('int8') else asked.get('dtype', 'float32')}"
            if arguments.only and name not in arguments.only:
                continue
            row = measure(folder, asked, arguments.rows)
            kind = next(k for k in KINDS if folder in getattr(arguments, k))
            row |= {"model": folder.parent.name, "export": name, "method": kind, "note": arguments.note}
            row |= {"asked_rows": arguments.rows, "versions": versions()}
            others = [r for r in read_results() if (r["model"], r["export"]) != (row["model"], name)]
            write_results([*others, row])
            print(line(row), flush=True)


def measure(folder: Path, asked: dict[str, Any], rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            made = sortal.export(
                folder, out=Path(scratch) / "export", rows=rows, max_difference=1.0, say=print, **asked
            )
        except SortalError as error:
            return {"refused": error.what.replace(str(folder), folder.parent.name)}
        return {key: value for key, value in made.to_json().items() if key not in ("folder", "limit")}


def line(row: dict[str, Any]) -> str:
    if "refused" in row:
        return f"| {row['model']} | {row['export']} | refused: {row['refused']} | | | | | |"
    exact, as_run = row["agreement"], row["as_run"]
    beside = f"{as_run['agreeing']} | {as_run['largest']:.1e}" if as_run else "– | –"
    return (
        f"| {row['model']} | {row['export']} | {exact['agreeing']} of {exact['rows']} | {exact['largest']:.1e} | {beside} "
        f"| {row['bytes'] / 1e6:,.0f} | {row['seconds']:,.0f} |"
    )


def read_results() -> list[dict[str, Any]]:
    path = RESULTS / "export.json"
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def write_results(rows: list[dict[str, Any]]) -> None:
    rows = sorted(rows, key=lambda row: row["model"])
    (RESULTS / "export.json").write_text(json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n")
    commands = dict.fromkeys(
        f"python -m benchmarks.export --{row['method']} runs/{row['model']}/model --rows {row['asked_rows']}"
        for row in rows
    )
    notes = dict.fromkeys(row["note"] for row in rows if row["note"])
    lines = [
        "# Exports beside Sortal",
        "",
        *[f"`{each}`" for each in commands],
        "",
        "Decisions that are Sortal's, and the largest difference of any probability of any row: beside Sortal with fp32 arithmetic, and beside "
        "`sortal predict` in the dtype of the run, whose rounding no export repeats. Exports are asked in fp32 arithmetic, whatever they store. "
        "Besides the run's rows, five texts that break pooling and templates. The last column is everything: Sortal's own answers twice, writing, asking.",
        *["", *[f"{note}." for note in notes]] * bool(notes),
        "",
        "| model | export | decisions | max Δp | beside `predict` | max Δp | MB | s |",
        "|---|---|---|---|---|---|---|---|",
        *map(line, rows),
    ]
    (RESULTS / "export.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
