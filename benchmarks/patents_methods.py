"""Every method on the same declared part of US patents, by IPC section, class and subclass.

    python -m benchmarks.patents_methods                                  # all; a finished run is only read
    python -m benchmarks.patents_methods --methods tfidf encoder --levels sections

A seeded sample of each file's rows and the first words of each text; one seed. The cheapest methods come first, every method at all
levels before the next one, and each finished run is written at once: into patents.json and patents.md in benchmarks/results, beside
what benchmarks.patents found on all rows. Looks for us_patents_ipc in $SORTAL_DATA (or --data).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.paper.sets import Sizes, write_set
from benchmarks.patents import write_titles
from benchmarks.patents_levels import band_f1, level_f1
from benchmarks.patents_tables import METRICS, keep_level

SAMPLE = Sizes(train=800, dev=200, test=400, words=40)
SHARED: dict[str, Any] = {"text": "text", "label": "labels", "id": "id", "threads": 1, "seed": 0}
# What every method of a level is told.
LEVELS: dict[str, dict[str, Any]] = {
    "sections": {"task": "single", "metric_for_best_model": "accuracy"},
    "classes": {"task": "single", "metric_for_best_model": "accuracy"},
    "subclasses": {
        "task": "multi",
        "metric_for_best_model": "f1_micro",
        "threshold_metric": "f1_micro",
    },
}
METHODS: dict[str, dict[str, Any]] = {
    "tfidf": {},
    "encoder": {"model": "minilm-l6", "max_length": 96, "epochs": 3},
    "probe": {"max_length": 128},
    "head": {"blend": "none", "max_length": 128, "keep_layers": 12, "pooling": "mean", "epochs": 2},
    "instruct": {"max_length": 512, "epochs": 1},
}
# The candidates of a prompt; eight sections are all listed.
SHORTLIST = {"classes": 10, "subclasses": 10}
# The IPC's own titles of its sections. The data has titles of subclasses only: classes are read as their codes.
SECTIONS = {
    "A": "human necessities",
    "B": "performing operations; transporting",
    "C": "chemistry; metallurgy",
    "D": "textiles; paper",
    "E": "fixed constructions",
    "F": "mechanical engineering; lighting; heating; weapons; blasting",
    "G": "physics",
    "H": "electricity",
}
# What the results say of all levels; they are of one command, in however many goes it was made.
ABOUT = {
    "command": "python -m benchmarks.patents_methods",
    "about": f"A seeded sample of {SAMPLE.train:,} training, {SAMPLE.dev:,} dev and {SAMPLE.test:,} test rows, the first {SAMPLE.words} words of title and abstract; dev and test rows with labels that no sampled training row has lose them, or are left out."
    " `encoder` is minilm-l6, the others read smollm2-135m: `head` its first 12 layers, `probe` the layer that dev prefers, `instruct` all. Levels above a task's own are those of its answers."
    " One seed, one thread of a core that other work shared: seconds are no measurement of speed. `probe` reads every text once for all levels: where its states were there already, its time is that of the regressions.",
}
_ANSWER_WORDS = 4  # of a title, in the question about a subclass
_COSTS = (
    "train_seconds",
    "tokens",
    "tokens_per_second",
    "trainable_parameters",
    "peak_memory_bytes",
    "shortlist_recall",
    "best_step",
    "steps",
    "layer",
    "template",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=list(LEVELS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/patents-methods"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    data, runs = Path(arguments.data), arguments.runs
    for method in arguments.methods:
        for level in arguments.levels:
            cell(level, method, data, runs)
            keep_level(ABOUT, level, figures(level, runs))
            print(f"{level}: {method} is done", flush=True)


def settings_of(level: str, method: str, data: Path, runs: Path) -> dict[str, Any]:
    """Everything a run is told."""
    files = write_set(f"patents-{level}", data, SAMPLE, runs / "data" / level)
    settings = {**files, **SHARED, **LEVELS[level], **METHODS[method], "method": method}
    if method in ("head", "encoder", "instruct") and (wording := wordings(level, method, files, data, runs)):
        settings["verbalizer"] = str(wording)
    if method == "instruct" and level in SHORTLIST:
        settings["shortlist"] = SHORTLIST[level]
    return {**settings, "out": str(runs / f"{level}-{method}")}


def wordings(level: str, method: str, files: dict[str, str], data: Path, runs: Path) -> Path | None:
    """A verbalizer file with what the labels of a level mean; None of classes, which have no titles here.

    `instruct` asks about each subclass by its code and a few words, so that no two questions are the same.
    """
    if level == "sections":
        return _rows(runs / "sections.csv", [(label, "", title) for label, title in SECTIONS.items()])
    if level == "classes":
        return None
    titles = write_titles(data, files["data"], runs / "subclasses.csv")
    if method != "instruct":
        return titles
    with titles.open(newline="", encoding="utf-8") as file:
        short = [
            (
                row["label"],
                " ".join([row["label"], *row["description"].split()[:_ANSWER_WORDS]]).rstrip(",;"),
                "",
            )
            for row in csv.DictReader(file)
        ]
    return _rows(runs / "subclasses-asked.csv", short)


def _rows(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "wording", "description"])
        writer.writerows(rows)
    return path


def cell(level: str, method: str, data: Path, runs: Path) -> None:
    """Train and measure once; nothing to do where that is done."""
    from sortal.config import build_config
    from sortal.run import run

    run(build_config(settings_of(level, method, data, runs)), resume=True)


def figures(level: str, runs: Path) -> dict[str, Any]:
    """What the finished runs of a level say on the same test rows, and every two of them tested."""
    from sortal.evaluation.predictions import read_predictions
    from sortal.evaluation.significance import compare_pairs
    from sortal.training.runfolder import RunFolder

    folders = {method: RunFolder(runs / f"{level}-{method}") for method in METHODS}
    rows, saved, record = [], {}, {}
    for method, folder in folders.items():
        if folder.state() != "finished":
            continue
        record = folder.read_run_json()
        metrics = _json(folder.metrics_json)
        found = read_predictions(folder.predictions)
        saved[method] = [found]
        frequency = _json(folder.model / "sortal.json")["training_rows"]["of_label"]
        rows.append(
            {
                "method": method,
                **{key: [metrics[key], metrics["intervals"][key]] for key in METRICS[level]},
                "ece": metrics["ece"],
                "levels": level_f1(found, level),
                "bands": band_f1(found, frequency),
                "settings": told(level, method),
                "cost": {
                    **{key: record["training"][key] for key in _COSTS if key in record["training"]},
                    "texts_per_second": record["inference"]["texts_per_second"],
                },
            }
        )
    pairs = (
        [pair for metric in METRICS[level] for pair in compare_pairs(saved, metric)] if len(saved) > 1 else []
    )
    return {
        "task": LEVELS[level]["task"],
        "rows": {part: entry["rows"] for part, entry in record["data"].items()},
        "labels": len(next(iter(saved.values()))[0].names),
        "results": rows,
        "tests": [pair.to_json() for pair in pairs],
    }


def told(level: str, method: str) -> dict[str, Any]:
    """The settings of a method that stand beside its cost."""
    more = {"shortlist": SHORTLIST[level]} if method == "instruct" and level in SHORTLIST else {}
    return {**METHODS[method], **more}


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
