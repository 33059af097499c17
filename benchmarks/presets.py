"""Presets on a short run each: the time that is said in advance beside the time that it takes.

    python -m benchmarks.presets                   # Banking77, 300 rows, one epoch; finished runs are only read

Looks for banking77 in $SORTAL_DATA (or --data). Writes benchmarks/results/presets.json and presets.md.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.command import command
from benchmarks.paper.sets import Sizes, write_set
from sortal.config_ensemble import member_folders

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    from sortal.config_presets import PRESETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/presets"))
    parser.add_argument("--rows", type=int, default=300, help="training rows drawn")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="what else the machine was doing, for the page")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    sizes = Sizes(arguments.rows, 50, 100, None)
    files = write_set("banking77", Path(arguments.data), sizes, arguments.runs / f"data-{arguments.rows}")
    shared = {"text": "text", "label": "labels", "id": "id", "task": "single", "seed": 0}
    shared |= {"epochs": arguments.epochs, "threads": arguments.threads}
    rows = [measure(name, {**files, **shared}, arguments.runs) for name in PRESETS]
    found = {"command": command("presets"), "note": arguments.note, "results": rows}
    (RESULTS / "presets.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "presets.md").write_text(markdown(found))


def measure(preset: str, settings: dict[str, Any], runs: Path) -> dict[str, Any]:
    """What was foreseen and used; both of the optimiser steps alone, of all members of a sum; ``seconds`` of the whole run."""
    from sortal.config import build_config
    from sortal.run import run
    from sortal.training.runfolder import RunFolder

    asked = build_config({**settings, "preset": preset, "out": str(runs / f"{preset}-{settings['epochs']}")})
    whole = run(asked, resume=True).record
    records = [RunFolder(folder).read_run_json() for folder in member_folders(asked)] or [whole]
    trainings = [record["training"] for record in records if "forecast" in record["training"]]
    figures = {
        name: sum(training["forecast"][name] for training in trainings)
        for name in ("foreseen_seconds", "least", "most", "used_seconds")
    }
    return {
        "preset": preset,
        "rows": whole["data"]["train"]["rows"],
        "epochs": settings["epochs"],
        "tokens_per_second": [training["tokens_per_second"] for training in trainings],
        "seconds": whole["seconds"],
        **figures,
        "used_of_foreseen": figures["used_seconds"] / figures["foreseen_seconds"],
    }


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    first = found["results"][0]
    lines = [
        "# Presets: the time said in advance",
        "",
        f"`{found['command']}`: Banking77, {first['rows']:,} training rows, {first['epochs']} epoch(s), smollm2-135m (de-quantised from 4 bits), one seed. Seconds mean something on this machine only. {found['note']}".rstrip(),
        "",
        "| preset | foreseen seconds (least to most) | used seconds | used / foreseen | real tokens/s, of each model | seconds of the whole run |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["results"]:
        lines.append(
            f"| {row['preset']} | {row['foreseen_seconds']:,.0f} ({row['least']:,.0f} to {row['most']:,.0f}) | {row['used_seconds']:,.0f} | {row['used_of_foreseen']:.2f}"
            f" | {', '.join(f'{rate:,.0f}' for rate in row['tokens_per_second'])} | {row['seconds']:,.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
