"""Long posts cut to their head, or read in windows: the same rows, the same encoder, paired tests.

    OMP_NUM_THREADS=1 python -m benchmarks.long_texts

A seeded sample of 20 Newsgroups, whole posts. ``head`` reads the first 128 tokens of each, the others up to 4 windows of 128 that share
16, combined by mean, max or attention. The encoder is minilm-l6; LoRA in its top layer and the head are trained, which one core can do.
Looks for the data set in $SORTAL_DATA (or --data); stopped, the same command goes on. Writes benchmarks/results/long_texts.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.command import command
from benchmarks.paper.sets import Sizes, write_set
from benchmarks.recipe.cells import Cell, train
from sortal.evaluation.holm import holm
from sortal.evaluation.predictions import read_predictions
from sortal.evaluation.significance import compare_pairs

RESULTS = Path(__file__).parent / "results"
SET, CUT = "newsgroups20", "head"
COMMON: dict[str, Any] = {
    "method": "encoder",
    "tuning": "lora",
    "lora_top_layers": 1,
    "max_length": 128,
    "batch_size": 16,
    "text": "text",
    "label": "labels",
    "id": "id",
    "task": "single",
    "threads": 1,
}
WINDOWS = {"windows": 4, "stride": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    CUT: {},
    "windows, mean": {**WINDOWS, "aggregation": "mean"},
    "windows, max": {**WINDOWS, "aggregation": "max"},
    "windows, attention": {**WINDOWS, "aggregation": "attention"},
}
METRICS = ("accuracy", "f1_macro")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=300, help="training rows")
    parser.add_argument("--test", type=int, default=500, help="test rows")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/long_texts"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    sizes = Sizes(arguments.train, 60, arguments.test, None)
    files = write_set(SET, arguments.data, sizes, arguments.runs / "data")
    cells = [
        Cell(SET, name, 0, {
            **files, **COMMON, **VARIANTS[name], "epochs": arguments.epochs, "out": str(arguments.runs / name.replace(", ", "-"))
        })
        for name in arguments.variants
    ]  # fmt: skip
    for cell in cells:
        if not cell.finished:
            print(cell.variant, train(cell), flush=True)
    keep(cells, arguments)


def keep(cells: list[Cell], arguments: argparse.Namespace) -> None:
    """Write long_texts.json and long_texts.md."""
    found: dict[str, Any] = {
        "command": command("long_texts", ("--data", "--runs")),
        "about": f"{SET}, a seeded sample of {arguments.train:,} training and {arguments.test:,} test posts, read whole; minilm-l6, LoRA in the top layer, {arguments.epochs} epochs, one seed.",
        "device": sorted({cell.device for cell in cells}),
        "variants": {cell.variant: figures(cell) for cell in cells},
    }
    runs = {cell.variant: [read_predictions(cell.out / "predictions.parquet")] for cell in cells}
    for metric in METRICS:
        beside = {
            name: compare_pairs({name: given, CUT: runs[CUT]}, metric)[0]
            for name, given in runs.items()
            if name != CUT and CUT in runs
        }
        corrected = holm([pair.p for pair in beside.values() if pair.p is not None])
        for (name, pair), p in zip(beside.items(), corrected, strict=True):
            found["variants"][name][f"{metric}_beside_head"] = replace(pair, p_holm=p).to_json()
    path = RESULTS / "long_texts.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(found), encoding="utf-8")


def figures(cell: Cell) -> dict[str, Any]:
    """What a finished run says about itself."""
    metrics = json.loads((cell.out / "metrics.json").read_text(encoding="utf-8"))
    record = json.loads((cell.out / "run.json").read_text(encoding="utf-8"))
    training = record["training"]
    kept = ("truncated_train_rows", "texts_in_windows", "windows", "tokens", "train_seconds", "best_step")
    return {
        **{metric: metrics[metric] for metric in METRICS},
        "intervals": {metric: metrics["intervals"][metric] for metric in METRICS},
        "rows": {part: entry["rows"] for part, entry in record["data"].items()},
        "settings": cell.settings,
        **{key: training[key] for key in kept if key in training},
        "inference_seconds": record["inference"]["seconds"],
    }


def markdown(found: dict[str, Any]) -> str:
    """The table of ``long_texts.md``."""
    lines = [
        "# Long texts: cut, or in windows",
        "",
        f"{found['about']} `{found['command']}`",
        "",
        "In brackets the difference from `head` in points and its p, paired over the test posts and Holm-corrected over the ways of combining windows.",
        "",
        "| read | accuracy | macro-F1 | posts cut | tokens trained on | training, s | test, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in found["variants"].items():
        shown = []
        for metric in METRICS:
            pair = each.get(f"{metric}_beside_head")
            gain = (
                f" ({100 * pair['difference']:+.1f}; p {_p(pair['p_holm'])})"
                if pair and pair["p_holm"] is not None
                else ""
            )
            shown.append(f"{each[metric]:.3f}{gain}")
        cut = f"{each['truncated_train_rows']:,} of {each['rows']['train']:,}"
        lines.append(
            f"| {name} | {' | '.join(shown)} | {cut} | {each['tokens']:,} | {each['train_seconds']:,.0f} | {each['inference_seconds']:,.0f} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"Device: {', '.join(found['device'])}, shared with other work: seconds are no measurement of speed.",
            "",
        ]
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


if __name__ == "__main__":
    main()
