"""A few examples per label: Sortal's methods and SetFit on the same rows.

    pip install -c constraints.txt '.[bench]'
    python -m benchmarks.fewshot --shots 5 10 --seeds 3

Every seed draws its own examples from Banking77's training file, and all methods get the same ones. Sortal takes its dev rows from
them, SetFit needs none. ``names`` is the head before any training: texts beside label names; with ``-labels`` the template lists them, too. Looks for the data set in $SORTAL_DATA
(or --data); stopped, the same command goes on. Writes benchmarks/results/fewshot.json and fewshot.md (or --name); numbers of examples that are not asked for stay there.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.command import command

RESULTS = Path(__file__).parent / "results"
METHODS: dict[str, dict[str, Any] | None] = {
    "names": {"method": "head", "blend": "none", "epochs": 0},
    "names-labels": {"method": "head", "blend": "none", "epochs": 0, "template": "labels"},
    "tfidf": {"method": "tfidf"},
    "probe": {"method": "probe"},
    "encoder": {"method": "encoder"},
    "head": {"method": "head", "blend": "none"},
    "head-labels": {"method": "head", "blend": "none", "template": "labels"},
    "head-blend": {"method": "head", "blend": "tfidf"},
    "instruct": {"method": "instruct"},
    "setfit": None,
}
Rows = list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shots", nargs="+", type=int, default=[5, 10])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--test", type=int, default=1000, help="test rows, a seeded sample; 0: all")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings for every run")
    parser.add_argument("--name", default="fewshot", help="of the results")
    parser.add_argument("--note", default="", help="what else to know of the machine, for the page")
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/fewshot"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    folder = arguments.data / "banking77"
    train, test = read(folder / "train.csv"), read(folder / "test.csv")
    order = np.random.default_rng(0).permutation(len(test))[: arguments.test or None]
    test = [test[i] for i in order.tolist()]
    for shots, seed in product(arguments.shots, range(arguments.seeds)):
        place = arguments.runs / f"{shots}-shot-{seed}"
        place.mkdir(parents=True, exist_ok=True)
        drawn = draw(train, shots, seed)
        files = {part: write(place / f"{part}.csv", rows) for part, rows in (("data", drawn), ("test", test))}
        for method in arguments.methods:
            cell(method, seed, place, files, drawn, test, arguments.set)
    keep(arguments)


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def write(path: Path, rows: Rows) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


def draw(rows: Rows, shots: int, seed: int) -> Rows:
    """``shots`` random rows of every label."""
    kept: dict[str, int] = {}
    drawn = []
    for i in np.random.default_rng(seed).permutation(len(rows)).tolist():
        label = rows[i][1]
        if kept.get(label, 0) < shots:
            kept[label] = kept.get(label, 0) + 1
            drawn.append(rows[i])
    return drawn


def cell(
    method: str, seed: int, place: Path, files: dict[str, str], drawn: Rows, test: Rows, more: Sequence[str]
) -> None:
    """Fit and predict once; nothing to do where that is done."""
    from sortal.config import applies, build_config
    from sortal.config_files import parse_assignments
    from sortal.run import run

    out = place / method
    if (own := METHODS[method]) is None:
        if not (out / "run.json").exists():
            setfit(seed, out, drawn, test)
        return
    settings = {k: v for k, v in parse_assignments(more).items() if applies(k, own["method"])}
    config = build_config(
        {
            **files,
            "text": "text",
            "label": "label",
            "task": "single",
            "seed": seed,
            "out": str(out),
            **own,
            **settings,
        }
    )
    with out.with_suffix(".log").open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        run(config, resume=True, quiet=True)


def setfit(seed: int, out: Path, drawn: Rows, test: Rows) -> None:
    """The peer, on the encoder that Sortal's ``encoder`` tunes; kept in the files of a run."""
    from benchmarks.peers.setfit_fit import fit_predict
    from sortal.backbone.sources import resolve
    from sortal.data.labels import LabelSpace
    from sortal.evaluation.predictions import write_predictions
    from sortal.provenance import environment
    from sortal.training.distributed import processes

    names = tuple(sorted({label for _, label in drawn}))
    base = resolve("minilm-l6", consent=False, say=print).path
    fitted = fit_predict(
        str(base), [text for text, _ in drawn], [names.index(label) for _, label in drawn],
        [text for text, _ in test], labels=len(names), seed=seed, folder=str(out / "trainer"),
    )  # fmt: skip
    gold = np.array([names.index(label) for _, label in test])
    write_predictions(
        out / "predictions.parquet", [str(i + 1) for i in range(len(test))], fitted.probabilities,
        fitted.probabilities.argmax(1), LabelSpace(names, "single"), gold=gold,
    )  # fmt: skip
    record = {
        "training": {"train_seconds": fitted.train_seconds},
        "inference": {"texts_per_second": len(test) / fitted.predict_seconds},
        "environment": environment(processes()),
    }
    (out / "run.json").write_text(json.dumps(record), encoding="utf-8")


def keep(arguments: argparse.Namespace) -> None:
    """Means over seeds, and every method beside SetFit; all cells are finished."""
    from sortal.evaluation.predictions import read_predictions
    from sortal.evaluation.significance import compare_pairs

    path = RESULTS / f"{arguments.name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"shots": {}}
    for shots in arguments.shots:
        folders = [arguments.runs / f"{shots}-shot-{seed}" for seed in range(arguments.seeds)]
        runs = {
            method: [read_predictions(folder / method / "predictions.parquet") for folder in folders]
            for method in arguments.methods
        }
        records = {
            method: [
                json.loads((folder / method / "run.json").read_text(encoding="utf-8")) for folder in folders
            ]
            for method in arguments.methods
        }
        pairs = compare_pairs(runs, "accuracy") if len(runs) > 1 else []
        found["shots"][str(shots)] = {
            "command": command("fewshot"),
            "note": arguments.note,
            "seeds": arguments.seeds,
            "test_rows": len(next(iter(runs.values()))[0].ids),
            "methods": {
                method: {
                    "accuracy": [float((p.predicted == p.gold).mean()) for p in runs[method]],
                    "train_seconds": fmean(r["training"]["train_seconds"] for r in records[method]),
                    "texts_per_second": fmean(r["inference"]["texts_per_second"] for r in records[method]),
                    "device": " and ".join(
                        dict.fromkeys(r["environment"]["device"] for r in records[method])
                    ),
                }
                for method in arguments.methods
            },
            "pairs": [pair.to_json() for pair in pairs],
        }
    found["shots"] = dict(sorted(found["shots"].items(), key=lambda item: int(item[0])))
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))


def markdown(found: dict[str, Any]) -> str:
    from sortal.data.problems import counted

    lines = [
        "# A few examples per label: Banking77, 77 intents",
        "",
        "Accuracy, mean over draws of examples (each in brackets); SetFit and `encoder` on minilm-l6, the rest on smollm2-135m.",
    ]
    for shots, each in found["shots"].items():
        lines += [
            "",
            f"## {shots} per label, {each['test_rows']:,} test rows",
            "",
            f"{counted(each['seeds'], 'draw')}: `{each['command']}`. Seconds of different devices are not to be compared. {each.get('note', '')}".rstrip(),
            "",
            "| method | accuracy | training, s | texts/s | device |",
            "|---|---|---|---|---|",
        ]
        for method, f in sorted(each["methods"].items(), key=lambda item: -fmean(item[1]["accuracy"])):
            runs = ", ".join(f"{value:.3f}" for value in f["accuracy"])
            lines.append(
                f"| {method} | {fmean(f['accuracy']):.3f} ({runs}) | {f['train_seconds']:,.0f} | {f['texts_per_second']:,.0f} | {f['device']} |"
            )
        lines += [
            "",
            *(f"- {pair['verdict']}" for pair in each["pairs"] if "setfit" in (pair["a"], pair["b"])),
        ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
