"""Which epoch to keep: test accuracy (of several labels R-precision) after every epoch of short runs, and what each rule would have kept.

    python -m benchmarks.small_data          # Banking77, ten labels, a head on the first layers; finished runs are only read
    python -m benchmarks.small_data --name small_data_77 --labels 77 --rows 385 770 --test-rows 500
    python -m benchmarks.small_data --name small_newsgroups --set newsgroups20 --labels 20 --words 40 --method encoder --rows 400

Looks for the data sets in $SORTAL_DATA (or --data). Writes benchmarks/results/small_data.json and small_data.md (or --name).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.command import command
from benchmarks.paper.sets import SETS, Sizes, write_set

RESULTS = Path(__file__).parent / "results"
_RESAMPLES = 2000
Epochs = list[dict[str, Any]]


def best(epochs: Epochs, patience: int, last: bool) -> int:
    """The epoch with the highest dev macro-F1, of equal ones the first or the last, until ``patience`` brought no gain."""
    kept, without = 0, 0
    for number, epoch in enumerate(epochs[1:], start=1):
        gain = epoch["f1_macro"] - epochs[kept]["f1_macro"]
        if gain > 0 or (last and gain == 0):
            kept, without = number, 0
        else:
            without += 1
            if without >= patience:
                break
    return kept


def last_but(epochs: Epochs, dev: int) -> int:
    """The last epoch, or the best where its dev figure is higher by more than a standard error: what Sortal does."""
    kept = best(epochs, len(epochs), last=True)
    far = epochs[kept]["f1_macro"] - epochs[-1]["f1_macro"] > 0.5 / math.sqrt(dev)
    return kept if far else len(epochs) - 1


RULES: dict[str, Callable[[Epochs, int], int]] = {
    "patience 2, the first of equal ones": lambda epochs, dev: best(epochs, 2, last=False),
    "patience 2, the last of equal ones": lambda epochs, dev: best(epochs, 2, last=True),
    "all epochs, the first of equal ones": lambda epochs, dev: best(epochs, len(epochs), last=False),
    "all epochs, the last of equal ones": lambda epochs, dev: best(epochs, len(epochs), last=True),
    "all epochs, the lowest dev loss": lambda epochs, dev: int(np.argmin([e["loss"] for e in epochs])),
    "all epochs, the last": lambda epochs, dev: len(epochs) - 1,
    "all epochs, the last unless one is above it by a standard error": last_but,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/small_data"))
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[60, 150], help="for training and dev together"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", default="banking77", choices=list(SETS))
    parser.add_argument("--words", type=int, default=0, help="read of each text; 0: all")
    parser.add_argument("--method", default="head", choices=["head", "encoder"])
    parser.add_argument(
        "--labels", type=int, default=10, help="drawn of all; 0: all, as always where a text has several"
    )
    parser.add_argument(
        "--layers", type=int, default=4, help="of 30, read at the mean; with all 30 as heads are"
    )
    parser.add_argument("--name", default="small_data", help="of the results")
    parser.add_argument("--test-rows", type=int, default=150)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    sizes = Sizes(None, 1, None, arguments.words or None)
    data = arguments.runs / f"data-{arguments.set}-{arguments.words}"
    files = write_set(arguments.set, Path(arguments.data), sizes, data)
    runs = [
        watched(files, rows, seed, arguments) for seed in range(arguments.seeds) for rows in arguments.rows
    ]
    found = {
        "command": command("small_data"),
        "about": about(arguments),
        "figure": "accuracy" if SETS[arguments.set].single else "R-precision",
        "seeds": arguments.seeds,
        "results": [judged([run for run in runs if run["rows"] == rows]) for rows in arguments.rows],
    }
    path = RESULTS / f"{arguments.name}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(markdown(found))


def about(arguments: argparse.Namespace) -> str:
    """What is trained on what."""
    words = f", {arguments.words} words of each text" if arguments.words else ""
    data = f"{arguments.set}, {arguments.labels or 'all'} of its labels{words}"
    if arguments.method == "encoder":
        return f"{data}, minilm-l6 tuned whole"
    depth = "all layers" if arguments.layers == 30 else f"the first {arguments.layers} layers, pooling mean,"
    return f"{data}, a head on {depth} of smollm2-135m (de-quantised from 4 bits)"


def watched(files: dict[str, str], rows: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run to its last epoch; after each dev figures and, by test row, whether the answer is right.

    Of k labels, the share that is among the k likeliest: no threshold has a part in it.
    """
    from sortal.config import build_config
    from sortal.data.dataset import Dataset
    from sortal.data.reading import read
    from sortal.methods.encoder import EncoderScorer
    from sortal.methods.head import HeadScorer
    from sortal.run import run

    how = f"{arguments.method}-{arguments.layers}" if arguments.method == "head" else arguments.method
    name = f"{arguments.set}-{rows}-{arguments.labels}-{arguments.words}-{how}-{seed}"
    task: Any = "single" if SETS[arguments.set].single else "multi"
    kept = arguments.runs / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    shutil.rmtree(arguments.runs / name, ignore_errors=True)  # a stopped run, whose test figures are lost
    rng = np.random.default_rng(seed)
    parts = {
        part: read(files[part], text=("text",), label="labels", task=task, say=str)
        for part in ("data", "test")
    }
    names = sorted({label for labels in parts["data"].labels or () for label in labels})
    chosen = set(rng.choice(names, arguments.labels or len(names), replace=False).tolist())

    def sample(part: Dataset, size: int) -> Dataset:
        fitting = [i for i, labels in enumerate(part.labels or ()) if chosen.issuperset(labels)]
        return part.take(np.sort(rng.choice(fitting, min(size, len(fitting)), replace=False)))

    train, test = sample(parts["data"], rows), sample(parts["test"], arguments.test_rows)
    drawn = sorted({label for labels in train.labels or () for label in labels})  # what the run will know
    texts = list(test.iter_texts())
    gold = np.array([[name in labels for name in drawn] for labels in test.labels or ()])
    given = np.array([len(labels) for labels in test.labels or ()])
    right: list[list[float]] = []
    kind: Any = HeadScorer if arguments.method == "head" else EncoderScorer
    plain = kind.score_encoded

    def scored(scorer: Any, encoded: Any, view: Any = None) -> Any:
        scores = plain(scorer, scorer.encode(texts))
        first = np.argsort(np.argsort(-scores, axis=1), axis=1) < given[:, None]
        right.append(((first & gold).sum(1) / np.maximum(given, 1)).tolist())
        return plain(scorer, encoded, view)

    short = {"keep_layers": arguments.layers, "pooling": "mean"} if arguments.layers < 30 else {}
    settings = {
        "method": arguments.method,
        "blend": "none",
        **(short if arguments.method == "head" else {}),
        "early_stopping_patience": 1000,
        "test_size": 0.0,
        "seed": seed,
        "threads": 1,
        "out": str(arguments.runs / name),
    }
    with patch.object(kind, "score_encoded", scored):
        result = run(build_config(settings), data={"train": train}, quiet=True)
    history = result.record["training"]["history"]
    epochs = [
        {"f1_macro": entry["f1_macro"], "loss": entry["loss"], "right": rows_right}
        for entry, rows_right in zip(history, right, strict=False)
    ]
    assert tuple(result.classifier.classes_) == tuple(drawn)
    sizes = {part: result.record["data"][part]["rows"] for part in ("train", "dev")}
    found = {"rows": rows, "seed": seed, **sizes, "epochs": epochs}
    kept.write_text(json.dumps(found))
    return found


def judged(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Every rule's test accuracy, and its gain over the first rule, with intervals over seeds and rows."""
    right = {
        name: [run["epochs"][rule(run["epochs"], run["dev"])]["right"] for run in runs]
        for name, rule in RULES.items()
    }
    first = next(iter(RULES))
    rng = np.random.default_rng(0)
    draws = [
        [(seed, rng.integers(0, len(runs[seed]["epochs"][0]["right"]), len(runs[seed]["epochs"][0]["right"])))
         for seed in rng.integers(0, len(runs), len(runs))]
        for _ in range(_RESAMPLES)
    ]  # fmt: skip

    def interval(rows: list[np.ndarray[Any, Any]]) -> list[float]:
        means = [np.mean([rows[seed][drawn].mean() for seed, drawn in draw]) for draw in draws]
        return [float(value) for value in np.percentile(means, [2.5, 97.5])]

    found = []
    for name in RULES:
        rows = [np.array(each, float) for each in right[name]]
        gains = [a - np.array(b, float) for a, b in zip(rows, right[first], strict=True)]
        found.append(
            {
                "rule": name,
                "accuracy": float(np.mean([each.mean() for each in rows])),
                "interval": interval(rows),
                "gain": float(np.mean([each.mean() for each in gains])),
                "gain_interval": interval(gains),
                "epochs": [1 + RULES[name](run["epochs"], run["dev"]) for run in runs],
            }
        )
    sizes = {part: sorted({run[part] for run in runs}) for part in ("train", "dev")}
    return {
        **sizes,
        "planned": len(runs[0]["epochs"]),
        "test": len(runs[0]["epochs"][0]["right"]),
        "rules": found,
    }


def markdown(found: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        "# Which epoch to keep",
        "",
        f"`{found['command']}`: {found['about']}, {found['seeds']} seeds (each with its own labels, rows and split); "
        "every run trained to its last epoch and tested after each. Intervals: 95 %, bootstrap over seeds and test rows.",
    ]
    for size in found["results"]:
        train, dev = (", ".join(map(str, size[part])) for part in ("train", "dev"))
        lines += [
            "",
            f"## {train} training rows, {dev} dev rows",
            "",
            f"{size['planned']} epochs, {size['test']} test rows per seed.",
            "",
            f"| rule | {found['figure']} | against the first rule, points | epochs kept |",
            "|---|---|---|---|",
        ]
        for rule in size["rules"]:
            low, high = rule["interval"]
            below, above = rule["gain_interval"]
            lines.append(
                f"| {rule['rule']} | {rule['accuracy']:.3f} [{low:.3f}, {high:.3f}] | {100 * rule['gain']:+.1f} [{100 * below:+.1f}, {100 * above:+.1f}]"
                f" | {', '.join(map(str, rule['epochs']))} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
