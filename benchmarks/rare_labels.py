"""Hundreds and thousands of labels, most of them rare: thresholds of ``tfidf``, and losses of an encoder, on patents.

    python -m benchmarks.rare_labels                                    # everything; a finished run is only read
    python -m benchmarks.rare_labels --parts patents-subclasses         # thresholds of tfidf on one level of labels
    python -m benchmarks.rare_labels --parts losses

Looks for us_patents_ipc in $SORTAL_DATA (or --data). Writes benchmarks/results/rare_labels.json and rare_labels.md.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import command
from benchmarks.paper.sets import Sizes, write_set
from benchmarks.tables import p_value, points, span, table

RESULTS = Path(__file__).parent / "results"
LEVELS = {"patents-subclasses": "IPC subclasses (A01B)", "patents-groups": "IPC main groups (A01B 1)"}
# The declared subset of the losses: seeded rows of each part, so many words of each text.
SAMPLE = Sizes(train=800, dev=250, test=600, words=16)
ENCODER: dict[str, Any] = {
    "method": "encoder",
    "model": "minilm-l6",
    "max_length": 96,
    "batch_size": 16,
    "epochs": 3,
}
LOSSES: dict[str, dict[str, Any]] = {
    "BCE": {},
    "asymmetric": {"loss": "asymmetric"},
    "negative_smoothing": {"negative_smoothing": 0.001},
    "logit_adjustment": {"logit_adjustment": 0.5},
    "pos_weight": {"pos_weight": 10.0},
}
THRESHOLDS: dict[str, dict[str, Any]] = {
    "none (0.5)": {"mode": "none"},
    "global": {"mode": "global"},
    "per_label, not shrunk": {"mode": "per_label", "shrinkage": 0.0},
    "per_label (shrunk, 10)": {"mode": "per_label"},
    "per_label, shrunk by 50": {"mode": "per_label", "shrinkage": 50.0},
    "auto": {"mode": "auto"},
}
METRICS = ("f1_micro", "f1_macro")
AT = ("p_at_1", "p_at_3", "p_at_5", "r_at_5", "ndcg_at_5", "psp_at_1", "psp_at_5")
_RESAMPLES, _ROUNDS = 1000, 2000
_SHARED = {"text": "text", "label": "labels", "id": "id", "task": "multi", "threads": 1, "seed": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=[*LEVELS, "losses"], choices=[*LEVELS, "losses"])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/rare"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    for part in arguments.parts:
        measure = partial(losses, arguments.losses) if part == "losses" else partial(thresholds, part)
        keep(part, {"command": command("rare_labels"), **measure(Path(arguments.data), arguments.runs)})


def thresholds(level: str, data: Path, runs: Path) -> dict[str, Any]:
    """Every way to choose thresholds on dev, for the same scores, on test; each tested against the global one."""
    from sortal.evaluation.decision import Decision
    from sortal.evaluation.metrics import evaluate
    from sortal.evaluation.thresholds import tune_thresholds

    files, result = tfidf_run(level, data, runs)
    classifier, space = result.classifier, result.classifier.label_space
    train, dev, test = (_read(files[part]) for part in ("data", "dev", "test"))
    frequencies = _frequencies(train, space)
    dev_scores, test_scores = (classifier.scorer.score(rows.iter_texts()) for rows in (dev, test))
    dev_gold, test_gold = space.encode(dev), space.encode(test)
    plain = Decision.fit(dev_scores, dev_gold, "multi", thresholds="none")
    dev_p, test_p = plain.probabilities(dev_scores), plain.probabilities(test_scores)
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for tuned_for in METRICS:
        answers, own = {}, []
        for name, how in THRESHOLDS.items():
            limits = tune_thresholds(dev_p, dev_gold, metric=tuned_for, **how)
            decision = Decision("multi", plain.temperature, tuple(limits.tolist()))
            found = evaluate(
                test_scores, test_gold, decision, space, n_resamples=_RESAMPLES, frequencies=frequencies
            )
            answers[name] = (test.ids, test_gold, decision.decide(test_p), test_p)
            own.append({"tuned_for": tuned_for, "name": name, **_figures(found)})
        _test(own, "global", answers, space.names)
        rows += own
    return {
        "rows": {"train": len(train), "dev": len(dev), "test": len(test)},
        "labels": len(space),
        "dev_positives": _counted(dev_gold.sum(axis=0)),
        "tfidf": {key: result.record["training"][key] for key in ("model", "c", "train_seconds", "features")},
        "ranked": {key: [found[key], found["intervals"][key]] for key in AT},
        "results": rows,
    }


def losses(asked: list[str], data: Path, runs: Path) -> dict[str, Any]:
    """The encoder with every loss of ``asked`` on the declared subset; each tested against BCE, which is always among them."""
    from sortal.evaluation.metrics import evaluate
    from sortal.evaluation.predictions import read_predictions

    rows: list[dict[str, Any]] = []
    answers, sizes, names = {}, {}, ()
    for loss in dict.fromkeys(["BCE", *asked]):
        files, result = encoder_run(loss, data, runs)
        classifier = result.classifier
        names = classifier.label_space.names
        frequencies = _frequencies(_read(files["data"]), classifier.label_space)
        saved = read_predictions(result.folder / "predictions.parquet")
        odds = classifier.decision.temperature * _log_odds(saved.probabilities)
        found = evaluate(
            odds,
            saved.gold,
            classifier.decision,
            classifier.label_space,
            n_resamples=_RESAMPLES,
            frequencies=frequencies,
        )
        answers[loss] = (saved.ids, saved.gold, saved.predicted, saved.probabilities)
        rows.append(
            {
                "name": loss,
                "settings": LOSSES[loss],
                **_figures(found),
                "ranked": {key: [found[key], found["intervals"][key]] for key in AT},
                **{key: result.record["training"][key] for key in ("steps", "best_step", "train_seconds")},
            }
        )
        sizes = {part: entry["rows"] for part, entry in result.record["data"].items()}
    _test(rows, "BCE", answers, names)
    return {"rows": sizes, "labels": len(names), "words": SAMPLE.words, "encoder": ENCODER, "results": rows}


def encoder_run(loss: str, data: Path, runs: Path) -> tuple[dict[str, str], Any]:
    """The files and the finished run of the encoder with one loss."""
    from sortal.config import build_config
    from sortal.run import run

    files = write_set("patents-subclasses", data, SAMPLE, runs / "data" / "patents-subclasses-sample")
    out = runs / f"patents-subclasses-sample-{loss}"
    config = build_config({**files, **_SHARED, **ENCODER, **LOSSES[loss], "out": str(out)})
    return files, run(config, resume=True)


def tfidf_run(level: str, data: Path, runs: Path) -> tuple[dict[str, str], Any]:
    """The files and the finished run of ``tfidf`` on all rows."""
    from sortal.config import build_config
    from sortal.run import run

    files = write_set(level, data, Sizes(None, None, None, None), runs / "data" / level)
    chosen_by = {"metric_for_best_model": "f1_micro", "threshold_metric": "f1_micro"}
    out = {"method": "tfidf", "out": str(runs / f"{level}-tfidf")}
    return files, run(build_config({**files, **_SHARED, **chosen_by, **out}), resume=True)


def _read(path: str) -> Any:
    from sortal.data.reading import read

    return read(path, text=("text",), label="labels", id="id", task="multi", say=lambda line: None)


def _frequencies(train: Any, space: Any) -> Any:
    from sortal.evaluation.frequency import LabelFrequencies
    from sortal.methods.frequencies import label_counts

    return LabelFrequencies(len(train), label_counts(space.encode_sparse(train), len(space)))


def _log_odds(probabilities: Any) -> Any:
    tiny = np.finfo(np.float64).tiny
    return np.log(np.maximum(probabilities, tiny)) - np.log1p(-np.minimum(probabilities, 1 - 1e-16))


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: [found[key], found["intervals"][key]] for key in METRICS},
        "bands": {band["training_rows"]: [band["labels"], band["f1_macro"]] for band in found["bands"]},
        "ece": found["ece"],
    }


def _test(
    rows: list[dict[str, Any]], reference: str, answers: dict[str, Any], names: tuple[str, ...]
) -> None:
    """Add each row's difference from the reference, with p corrected over the tests of a metric (Holm)."""
    from sortal.evaluation.holm import holm
    from sortal.evaluation.predictions import Predictions
    from sortal.evaluation.significance import compare_pairs

    runs = {}
    for method, (ids, gold, predicted, probabilities) in answers.items():
        runs[method] = [Predictions(names, "multi", ids, gold, predicted, probabilities)]
    for row in rows:
        row["pairs"] = {}
    tested = [row for row in rows if row["name"] != reference]
    for metric in METRICS:
        pairs = []
        for row in tested:
            two = {name: runs[name] for name in (row["name"], reference)}
            pairs += compare_pairs(two, metric, n_resamples=_RESAMPLES, n_rounds=_ROUNDS)
        for row, pair, p in zip(tested, pairs, holm([float(pair.p or 0) for pair in pairs]), strict=True):
            row["pairs"][metric] = {"difference": pair.difference, "interval": pair.interval, "p_holm": p}


def _counted(positives: Any) -> dict[str, int]:
    """How many labels have 0, 1, 2, 3, 4 to 10 and more positive rows."""
    several = {"4–10": (positives > 3) & (positives <= 10), "more": positives > 10}
    return {str(k): int((positives == k).sum()) for k in range(4)} | {
        name: int(which.sum()) for name, which in several.items()
    }


def keep(part: str, found: dict[str, Any]) -> None:
    """Add or replace a part in rare_labels.json, and write the tables of all."""
    path = RESULTS / "rare_labels.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept[part] = found
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(kept), encoding="utf-8")


def markdown(kept: dict[str, Any]) -> str:
    """One table of F1 and one of the first labels for every part."""
    lines = [
        "# Rare labels: thresholds and losses",
        "",
        "Test figures with 95 % bootstrap intervals over test rows. Differences, in points, are tested on the same rows (paired randomisation); p is corrected over the tests of a table's metric (Holm).",
    ]
    for part, found in kept.items():
        lines += ["", *_part(part, found)]
    return "\n".join(lines) + "\n"


def _part(part: str, found: dict[str, Any]) -> list[str]:
    sizes, results, of_losses = found["rows"], found["results"], part == "losses"
    size = f"{sizes['train']:,} training, {sizes['dev']:,} dev and {sizes['test']:,} test texts, {found['labels']:,} labels"
    if of_losses:
        title, reference = "Losses of an encoder, IPC subclasses", "BCE"
        encoder = ", ".join(f"{key} {value}" for key, value in found["encoder"].items())
        about = f"{size}, the first {found['words']} words of each text; {encoder}; one seed. `{found['command']}`"
    else:
        title, reference = f"Thresholds of tfidf, {LEVELS[part]}", "global"
        dev = ", ".join(f"{labels:,} with {count}" for count, labels in found["dev_positives"].items())
        about = f"{size}. Labels by their positive rows in dev: {dev}. `{found['command']}`"
    bands = [f"{band} rows ({labels:,})" for band, (labels, _) in results[0]["bands"].items()]
    named = ["loss"] if of_losses else ["tuned for", "thresholds"]
    columns = [*named, "micro-F1", f"from {reference}", "macro-F1", f"from {reference}", *bands, "ECE"]
    rows = []
    for row in results:
        cells = [_settings(row)] if of_losses else [row["tuned_for"], row["name"]]
        for metric in METRICS:
            cells += [span(*row[metric]), _difference(row["pairs"], metric)]
        rows.append([*cells, *(f"{value:.3f}" for _, value in row["bands"].values()), f"{row['ece']:.4f}"])
    ranked = [(row["name"], row["ranked"]) for row in results] if of_losses else [("tfidf", found["ranked"])]
    return [
        *(f"## {title}", "", about, "", *table(columns, rows), ""),
        "Columns of rows: macro-F1 of the labels with so many training rows (and how many labels they are).",
        "",
        *table(
            ["first labels", *AT], ([name, *(span(*values[key]) for key in AT)] for name, values in ranked)
        ),
    ]


def _settings(row: dict[str, Any]) -> str:
    given = ", ".join(f"{key}={value}" for key, value in row["settings"].items())
    return f"`{given}`" if given else str(row["name"])


def _difference(pairs: dict[str, Any], metric: str) -> str:
    if not pairs:
        return "–"
    return f"{points(pairs[metric]['difference'])}, {p_value(pairs[metric]['p_holm'])}"


if __name__ == "__main__":
    main()
