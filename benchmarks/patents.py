"""US patents by IPC section, class, subclass and main group: a tuned model, TF-IDF and both together, by level of the tree and by how frequent labels are.

    python -m benchmarks.patents                       # all tasks; a finished run is only read
    python -m benchmarks.patents --tasks sections

One run per task: ``head`` on the first 12 of smollm2-135m's 30 layers, blended with ``tfidf``. The parts of a blend are the two methods
by themselves, so one run gives three rows on the same scores. Looks for us_patents_ipc in $SORTAL_DATA (or --data). Writes
benchmarks/results/patents.json and patents.md, where benchmarks.patents_methods adds all methods on a part of the rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.command import command
from benchmarks.paper.sets import Sizes, write_set
from benchmarks.patents_levels import band_f1, level_f1
from benchmarks.patents_tables import AT, METRICS, keep

SHARED: dict[str, Any] = {
    "text": "text",
    "label": "labels",
    "id": "id",
    "method": "head",
    "keep_layers": 12,
    "pooling": "mean",
    "epochs": 2,
    "blend": "tfidf",
    "threads": 1,
    "seed": 0,
}
_SEVERAL = {
    "max_length": 96,
    "metric_for_best_model": "f1_micro",
    "threshold_metric": "f1_micro",
    "verbalizer": "titles",
}
TASKS: dict[str, dict[str, Any]] = {
    "sections": {"max_length": 128},
    "classes": {"max_length": 128},
    "subclasses": _SEVERAL,
    "groups": _SEVERAL,
}
_PARTS = ("tfidf", "head", "head+tfidf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/patents"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    for task in arguments.tasks:
        keep(task, {"command": command("patents"), **measure(task, Path(arguments.data), arguments.runs)})


def measure(task: str, data: Path, runs: Path) -> dict[str, Any]:
    """The finished run of a task, its parts on dev and test, and paired tests of the three."""
    from sortal.config import build_config
    from sortal.evaluation.decision import Decision
    from sortal.evaluation.metrics import evaluate
    from sortal.evaluation.predictions import Predictions
    from sortal.evaluation.significance import compare_pairs
    from sortal.run import run

    files = write_set(
        f"patents-{task}", data, Sizes(None, None, None, None), runs / "data" / f"patents-{task}"
    )
    settings = {**files, **SHARED, **TASKS[task], "out": str(runs / f"{task}-head12")}
    if settings.get("verbalizer") == "titles":
        settings["verbalizer"] = str(write_titles(data, files["data"], runs / f"titles-{task}.csv"))
    result = run(build_config(settings), resume=True)
    classifier, space = result.classifier, result.classifier.label_space
    train, dev, test = (_read(files[part], space.task) for part in ("data", "dev", "test"))
    scores = {part: _part_scores(classifier.scorer, rows) for part, rows in (("dev", dev), ("test", test))}
    dev_gold, gold = space.encode(dev), space.encode(test)
    config = result.record["config"]
    frequencies = classifier.frequencies or _frequencies(train, space)
    rows, answers = [], {}
    for part in _PARTS:
        decision = Decision.fit(
            scores["dev"][part], dev_gold, space.task, threshold_metric=config["threshold_metric"]
        )
        found = evaluate(scores["test"][part], gold, decision, space, frequencies=frequencies)
        probabilities = decision.probabilities(scores["test"][part])
        answers[part] = Predictions(
            space.names, space.task, list(test.ids), gold, decision.decide(probabilities), probabilities
        )
        rows.append(
            {
                "method": part,
                **{key: [found[key], found["intervals"][key]] for key in METRICS[task]},
                "ece": found["ece"],
                "levels": level_f1(answers[part], task),
                "bands": band_f1(answers[part], frequencies.of_label.tolist()),
                "ranked": {key: [found[key], found["intervals"][key]] for key in AT if key in found},
            }
        )
    pairs = [
        pair
        for metric in METRICS[task]
        for pair in compare_pairs({name: [found] for name, found in answers.items()}, metric)
    ]
    training = result.record["training"]
    return {
        "rows": {"train": len(train), "dev": len(dev), "test": len(test)},
        "labels": len(space),
        "settings": {**SHARED, **TASKS[task]},
        "results": rows,
        "tests": [pair.to_json() for pair in pairs],
        "training": {
            key: training[key]
            for key in ("train_seconds", "tokens_per_second", "tokens", "trainable_parameters", "parameters")
        },
        "tfidf_share": training["blend"]["share"],
    }


def write_titles(data: Path, train: str, path: Path) -> Path:
    """A verbalizer file with the titles of the subclasses that occur, or that the groups lie in, their references to other places cut off."""
    from sortal.data.ipc_titles import read_titles

    if path.exists():  # of a run that has begun
        return path
    titles = read_titles(data / "us_patents_ipc" / "ipc_subclass_titles.csv")
    rows = [json.loads(line) for line in Path(train).read_text(encoding="utf-8").splitlines()]
    labels = sorted({label for row in rows for label in row["labels"]})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "description"])
        for label in labels:
            writer.writerow([label, " ".join(titles.get(label[:4]).lower().split()[:24])])
    return path


def _part_scores(scorer: Any, rows: Any) -> dict[str, Any]:
    from sortal.training.progress import TerminalProgress

    texts = list(rows.iter_texts())
    tuned = scorer.tuned.score(texts, TerminalProgress())
    tfidf = scorer.tfidf.score(texts)
    return {"head": tuned, "tfidf": tfidf, "head+tfidf": scorer.add(tuned, tfidf)}


def _read(path: str, task: str) -> Any:
    from sortal.data.reading import read

    return read(path, text=("text",), label="labels", id="id", task=task, say=lambda line: None)


def _frequencies(train: Any, space: Any) -> Any:
    from sortal.evaluation.frequency import LabelFrequencies
    from sortal.methods.frequencies import label_counts

    return LabelFrequencies(len(train), label_counts(space.encode_sparse(train), len(space)))


if __name__ == "__main__":
    main()
