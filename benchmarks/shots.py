"""What examples in the prompt do for an untuned model: Banking77, none and the eight nearest of 2,000 training rows.

    python -m benchmarks.shots                    # smollm2-135m, 300 test rows
    python -m benchmarks.shots --only nearest     # one of the variants, beside what was measured before

Seeded samples of the files in $SORTAL_DATA (or --data): training rows, 20 dev rows (they set the temperature, which changes no
label) and test rows. `Classifier.predict` answers. ``tfidf`` is trained on the same rows. Intervals: percentile bootstrap over test
rows, the same draws for all variants. Writes benchmarks/results/shots.json and shots.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import command

RESULTS = Path(__file__).parent / "results"
NEAREST = {"shots": 8, "shot_choice": "nearest"}
VARIANTS: dict[str, dict[str, Any]] = {
    "tfidf": {"method": "tfidf"},
    "none": {"method": "instruct", "epochs": 0},
    "none, shortlist": {"method": "instruct", "epochs": 0, "shortlist": 20},
    "nearest": {"method": "instruct", "epochs": 0, **NEAREST},
    "nearest, plain format": {"method": "instruct", "epochs": 0, "prompt_format": "plain", **NEAREST},
    "nearest, shortlist": {"method": "instruct", "epochs": 0, "shortlist": 20, **NEAREST},
}
SIZES = {"train": 2000, "dev": 20, "test": 300}
DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/shots"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    files = sampled(Path(arguments.data) / "banking77", arguments.runs)
    path = RESULTS / "shots.json"
    for name in arguments.only:
        row = measured(name, arguments.model, files, arguments.runs)
        found: dict[str, Any] = {**(json.loads(path.read_text()) if path.exists() else {}), name: row}
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        path.with_suffix(".md").write_text(
            markdown({name: found[name] for name in VARIANTS if name in found})
        )
        print(name, sum(row["right"]), "of", len(row["right"]))


def sampled(folder: Path, out: Path) -> dict[str, Path]:
    """Files of the three parts; dev and test rows with a label that no training row has are left out."""
    rng = np.random.default_rng(0)
    parts: dict[str, list[dict[str, str]]] = {}
    for file, names in (("train.csv", ("train", "dev")), ("test.csv", ("test",))):
        with (folder / file).open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
        order = iter(rng.permutation(len(rows)).tolist())
        for name in names:
            parts[name] = [rows[next(order)] for _ in range(SIZES[name])]
    known = {row["category"] for row in parts["train"]}
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, ("text", "category"))
            writer.writeheader()
            writer.writerows(row for row in rows if row["category"] in known)
    return {name: out / f"{name}.csv" for name in parts}


def measured(name: str, model: str, files: dict[str, Path], runs: Path) -> dict[str, Any]:
    """One variant: which test rows are answered rightly, and how long that takes."""
    from sortal.config import build_config
    from sortal.run import run

    own = VARIANTS[name]
    settings = {
        **own,
        **({} if own["method"] == "tfidf" else {"model": model}),
        "data": str(files["train"]),
        "dev": str(files["dev"]),
        "test_size": 0,
        "text": ["text"],
        "label": "category",
        "threads": 1,
        "out": str(runs / name.replace(", ", "-")),
    }
    result = run(build_config(settings), resume=True)
    with files["test"].open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    start = time.perf_counter()
    given = result.classifier.predict([row["text"] for row in rows])
    seconds = time.perf_counter() - start
    training = result.record["training"]
    return {
        "command": command("shots"),
        "base_model": result.record["base_model"],
        "settings": own,
        "rows": {part: entry["rows"] for part, entry in result.record["data"].items()},
        "right": [int(answer == row["category"]) for answer, row in zip(given, rows, strict=True)],
        "seconds": seconds,
        **{
            key: training[key]
            for key in ("prompt_tokens", "off_set_mass", "truncated_examples")
            if key in training
        },
        "environment": result.record["environment"],
    }


def interval(values: Sequence[int] | np.ndarray[Any, Any]) -> str:
    """Mean and its 95 % bootstrap interval, as in a table."""
    given = np.asarray(values, float)
    draws = np.random.default_rng(0).integers(len(given), size=(DRAWS, len(given)))
    low, high = np.percentile(given[draws].mean(1), (2.5, 97.5))
    return f"{given.mean():.3f} [{low:.3f}, {high:.3f}]"


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    first = next(iter(found.values()))
    lines = [
        "# Examples in the prompt of an untuned model",
        "",
        f"Banking77, {first['rows']['train']:,} training rows, {len(first['right'])} test rows, one seed, one thread of a machine that may have had other work; "
        "95 % bootstrap intervals over test rows. Difference: of right answers, to the prompt without examples. Made by `python -m benchmarks.shots`.",
        "",
        "| variant | accuracy | difference | answers in |",
        "|---|---|---|---|",
    ]
    for name, each in found.items():
        control = found.get("none, shortlist" if "shortlist" in name else "none")
        difference = "–"
        if control is not None and name.startswith("nearest"):
            difference = interval(np.subtract(each["right"], control["right"]))
        lines.append(f"| {name} | {interval(each['right'])} | {difference} | {each['seconds']:.0f} s |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
