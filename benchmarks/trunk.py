"""Adapters on the top layers only, with the states below computed once: time and quality beside adapters on all layers.

    python -m benchmarks.trunk                     # Banking77, a declared sample; finished runs are only read
    python -m benchmarks.trunk --rows 0            # all training rows

Looks for banking77 in $SORTAL_DATA (or --data). Runs follow each other in one process, so that times can be compared. Writes
benchmarks/results/trunk.json and trunk.md.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.command import command
from benchmarks.paper.sets import Sizes, write_set
from benchmarks.tables import span

RESULTS = Path(__file__).parent / "results"
VARIANTS: dict[str, dict[str, Any]] = {
    "all 30 layers": {},
    "top 15, not cached": {"lora_top_layers": 15, "cache_trunk": "never", "epochs": 1},
    "top 15, cached": {"lora_top_layers": 15},
    "top 7, cached": {"lora_top_layers": 7},
}
_SHARED = {
    "text": "text",
    "label": "labels",
    "id": "id",
    "method": "head",
    "blend": "none",
    "epochs": 3,
    "batch_size": 32,
    "seed": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/trunk"))
    parser.add_argument(
        "--rows", type=int, default=800, help="training rows drawn (and 600 test rows); 0 for all"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    sizes = Sizes(arguments.rows or None, 200, 600 if arguments.rows else None, None)
    files = write_set("banking77", Path(arguments.data), sizes, arguments.runs / f"data-{arguments.rows}")
    rows = [
        measure(
            name,
            {**files, **_SHARED, "threads": arguments.threads},
            arguments.runs / f"{arguments.rows}-{name}",
        )
        for name in VARIANTS
    ]
    found = {"command": command("trunk"), "results": rows, "pairs": _pairs(arguments.runs, arguments.rows)}
    (RESULTS / "trunk.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "trunk.md").write_text(markdown(found))


def measure(name: str, settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """One finished run: figures with intervals, and what it cost."""
    from sortal.config import build_config
    from sortal.run import run

    result = run(build_config({**settings, **VARIANTS[name], "out": str(out)}), resume=True)
    training, metrics = result.record["training"], result.metrics
    return {
        "name": name,
        **{key: [metrics[key], metrics["intervals"][key]] for key in ("accuracy", "f1_macro")},
        "n": metrics["n"],
        "rows": result.record["data"]["train"]["rows"],
        "epochs": result.record["config"]["epochs"],
        "seconds": result.record["seconds"],
        **{
            key: training[key]
            for key in (
                "tokens_per_second",
                "train_seconds",
                "trainable_parameters",
                "cached_trunk",
            )
        },
    }


def _pairs(runs: Path, rows: int) -> list[dict[str, Any]]:
    from sortal.evaluation.predictions import read_predictions
    from sortal.evaluation.significance import compare_pairs

    found = {
        name: [read_predictions(runs / f"{rows}-{name}" / "predictions.parquet")]
        for name in VARIANTS
        if "not cached" not in name
    }
    return [pair.to_json() for pair in compare_pairs(found, "accuracy")]


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    first = found["results"][0]
    lines = [
        "# Adapters on the top layers, the states below computed once",
        "",
        f"`{found['command']}`: Banking77, {first['rows']:,} training rows, {first['n']:,} test rows, method head on smollm2-135m (de-quantised from 4 bits), one seed. Seconds mean something on this machine only.",
        "",
        "| tuned | epochs | accuracy | macro-F1 | real tokens/s in steps | seconds in steps | seconds of the run, reading included | M trained |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["results"]:
        figures = (span(*row[key]) for key in ("accuracy", "f1_macro"))
        lines.append(
            f"| {row['name']} | {row['epochs']} | {' | '.join(figures)} | {row['tokens_per_second']:,.0f} | {row['train_seconds']:,.0f} | {row['seconds']:,.0f}"
            f" | {row['trainable_parameters'] / 1e6:.2f} |"
        )
    lines += ["", "The run that is not cached has one epoch: it is there for its speed.", ""]
    lines += [f"- {pair['verdict']}" for pair in found["pairs"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
