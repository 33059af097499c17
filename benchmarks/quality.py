"""Quality and cost of ``sortal train`` on public data sets, one row per set and seed, from the runs' own records.

    python -m benchmarks.quality --sets banking77 reuters21578 goemotions --methods head instruct --seeds 0 --runs runs/quality
    python -m benchmarks.quality --sets banking77 reuters21578 goemotions --methods tfidf majority

Looks for the data sets in $SORTAL_DATA (or --data). Every cell is a resumable run; a finished one is only read, so the
command can be stopped and given again. Writes benchmarks/results/quality.json and quality.md.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
SETS: dict[str, dict[str, Any]] = {
    # dev is split off the training file: 5 % of 10,003 rows
    "banking77": {
        "data": "train.csv",
        "test": "test.csv",
        "text": ["text"],
        "label": "category",
        "dev_size": 0.05,
    },
    # ModApte, 90 labels; title and first part of the body
    "reuters21578": {
        "data": "train.jsonl",
        "test": "test.jsonl",
        "text": ["title", "text"],
        "label": "topics",
        "max_length": 96,
        "batch_size": 8,
        "epochs": 2,
    },
    "goemotions": {
        "data": "train.tsv",
        "dev": "dev.tsv",
        "test": "test.tsv",
        "text": ["text"],
        "label": "labels",
        "label_delimiter": ",",
        "max_length": 64,
        "epochs": 1,
        "eval_per_epoch": 2,
    },
    # Declared subsets for comparing methods on a CPU: seeded samples, texts cut to so many words; dev and test rows with a
    # label that no sampled training row has are left out.
    "banking77-500": {
        "data": "train.csv",
        "test": "test.csv",
        "text": ["text"],
        "label": "category",
        "dev_size": 0.05,
        "sample": {"test": 500},
    },
    "reuters21578-1k": {
        "data": "train.jsonl",
        "test": "test.jsonl",
        "text": ["title", "text"],
        "label": "topics",
        "dev_size": 0.17,
        "batch_size": 8,
        "epochs": 1,
        "sample": {"data": 1200, "test": 500, "words": 60},
    },
    "goemotions-2k": {
        "data": "train.tsv",
        "dev": "dev.tsv",
        "test": "test.tsv",
        "text": ["text"],
        "label": "labels",
        "label_delimiter": ",",
        "batch_size": 16,
        "epochs": 1,
        "sample": {"data": 2000, "dev": 300, "test": 600},
    },
}
METHODS: dict[str, dict[str, Any]] = {
    "head": {"method": "head", "blend": "none"},
    "head-blend": {"method": "head", "blend": "tfidf"},
    "head-cut": {"method": "head", "blend": "none", "keep_layers": "auto"},
    "probe": {"method": "probe"},
    "instruct": {"method": "instruct"},
    "instruct-list": {"method": "instruct", "answer": "list"},
    "instruct-each": {"method": "instruct", "answer": "each"},
    "zero-shot": {"method": "instruct", "epochs": 0},
    "zero-shot-list": {"method": "instruct", "answer": "list", "epochs": 0},
    "encoder": {"method": "encoder", "model": "minilm-l6"},  # its own model, whatever --model says
    "encoder-lora": {"method": "encoder", "model": "minilm-l6", "tuning": "lora"},
    "tfidf": {"method": "tfidf"},
    "majority": {"method": "majority"},
}
FIGURES = ("accuracy", "f1_micro", "f1_macro", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=["head"], choices=list(METHODS))
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings for every run")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--model", default="smollm2-135m", help="for methods without one of their own")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SORTAL_DATA"), help="folder of the data sets"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    for name in arguments.sets:
        for method, seed in product(arguments.methods, arguments.seeds):
            keep(
                cell(name, method, seed, arguments.model, Path(arguments.data), arguments.runs, arguments.set)
            )
        if len(arguments.methods) > 1:
            test_pairs(name, arguments.methods, arguments.seeds, arguments.model, arguments.runs)
    show()


def cell(
    name: str, method: str, seed: int, model: str, data: Path, runs: Path, more: list[str]
) -> dict[str, Any]:
    """One finished run: its settings, figures with intervals, cost and environment."""
    from sortal.config import RunConfig, applies, build_config
    from sortal.config_files import parse_assignments
    from sortal.config_sections import BASELINES
    from sortal.run import run

    own = METHODS[method]
    shared = {
        key: value for key, value in SETS[name].items() if key == "sample" or applies(key, own["method"])
    }
    settings = {**shared, **own}
    base = {"model": settings.pop("model", model)}
    command = f"python -m benchmarks.quality --sets {name} --methods {method} --seeds {seed}"
    if METHODS[method]["method"] in BASELINES:
        base = {}
    named = dict(settings)
    sizes = settings.pop("sample", {})
    folder = data / name.rpartition("-")[0] if sizes else data / name
    for key in ("data", "dev", "test"):
        if key in settings:
            settings[key] = str(folder / settings[key])
    if sizes:
        settings = sampled(settings, sizes, runs / f"sample-{name}")
    out = run_folder(name, method, model, seed, runs)
    values = {**settings, **parse_assignments(more), **base, "seed": seed, "out": str(out)}
    result = run(build_config(values), resume=True)
    training, metrics = result.record["training"], result.metrics
    config = build_config(
        {key: value for key, value in result.record["config"].items() if key in RunConfig.model_fields}
    )
    return {
        "set": name,
        "method": method,
        "seed": seed,
        "command": command
        + ("" if "model" in METHODS[method] else "".join(f" --model {spec}" for spec in base.values()))
        + (f" --set {' '.join(more)}" if more else ""),
        "base_model": result.record["base_model"],
        "settings": {
            **named,
            **{
                key: result.record["config"][key]
                for key in ("epochs", "batch_size")
                if applies(key, own["method"])
            },
        },
        "rows": {part: entry["rows"] for part, entry in result.record["data"].items()},
        "test_rows": metrics["n"],
        **{key: metrics[key] for key in FIGURES if key in metrics},
        "intervals": {key: value for key, value in metrics["intervals"].items() if key in FIGURES},
        "interval_method": metrics["interval_method"],
        **({"thresholds_for_micro": decided_for_micro(result, config)} if metrics["task"] == "multi" else {}),
        "training": {
            key: training[key]
            for key in (
                "trainable_parameters",
                "steps",
                "best_step",
                "tokens",
                "train_seconds",
                "tokens_per_second",
                "peak_memory_bytes",
                "truncated_train_rows",
                "template_hash",
                "dtype",
                "tuning",
                "pooling",
                "prompt_tokens",
                "off_set_mass",
                "stop_bias",
                "layer",
                "template",
                "features",
                "model",
                "c",
                "candidates",
            )
            if key in training
        },
        "history": training.get("history", []),
        "inference": result.record["inference"],
        "environment": result.record["environment"],
    }


def run_folder(name: str, method: str, model: str, seed: int, runs: Path) -> Path:
    """Where the run of a cell is."""
    from sortal.config_sections import BASELINES

    base = "" if METHODS[method]["method"] in BASELINES else METHODS[method].get("model", model)
    return runs / "-".join(
        part for part in (name, "" if method == "head" else method, base, str(seed)) if part
    )


def test_pairs(name: str, methods: list[str], seeds: list[int], model: str, runs: Path) -> None:
    """Every two methods on one set, with all labels' metrics that are reported; into pairs.json."""
    from sortal.evaluation.predictions import read_predictions
    from sortal.evaluation.significance import compare_pairs

    found = {
        method: [
            read_predictions(run_folder(name, method, model, seed, runs) / "predictions.parquet")
            for seed in seeds
        ]
        for method in methods
    }
    single = next(iter(found.values()))[0].task == "single"
    path = RESULTS / "pairs.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[name] = [
        pair.to_json()
        for metric in (("accuracy", "f1_macro") if single else ("f1_micro", "f1_macro"))
        for pair in compare_pairs(found, metric)
    ]
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    for pair in kept[name]:
        print(f"{name}: {pair['verdict']}")


def sampled(settings: dict[str, Any], sizes: dict[str, int], folder: Path) -> dict[str, Any]:
    """The same settings over JSON Lines files with a seeded sample of each file's rows, written once."""
    import numpy as np

    from sortal.data.reading import read

    arguments = {
        key: tuple(settings[key]) if key == "text" else settings[key]
        for key in ("text", "label", "label_delimiter")
        if key in settings
    }
    folder.mkdir(parents=True, exist_ok=True)
    known: set[str] = set()
    files: dict[str, str] = {}
    for key in ("data", "dev", "test"):
        if key not in settings:
            continue
        rows = read(settings[key], **arguments, say=lambda line: None)
        order = np.random.default_rng(0).permutation(len(rows))[: sizes.get(key, len(rows))]
        picked = [
            {
                "id": rows.ids[i],
                "text": " ".join(text.split()[: sizes.get("words")]),
                "labels": list((rows.labels or [])[i]),
            }
            for i, text in zip(order.tolist(), rows.text_at(order), strict=True)
        ]
        if key == "data":
            known = {label for row in picked for label in row["labels"]}
        picked = [row for row in picked if set(row["labels"]) <= known]
        if rows.task == "single":
            picked = [{**row, "labels": row["labels"][0]} for row in picked]
        path = folder / f"{key}.jsonl"
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in picked)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        files[key] = str(path)
    kept = {k: v for k, v in settings.items() if k not in ("text", "label", "label_delimiter")}
    return {**kept, **files, "text": ["text"], "label": "labels", "id": "id"}


def decided_for_micro(result: Any, config: Any) -> dict[str, Any]:
    """The same scores under thresholds tuned on dev for micro-F1 instead of macro-F1."""
    import numpy as np

    from sortal.evaluation.decision import Decision
    from sortal.evaluation.metrics import evaluate
    from sortal.evaluation.predictions import read_predictions
    from sortal.parts import read_parts

    classifier = result.classifier
    space = classifier.label_space
    dev = read_parts(config, lambda line: None).dev
    decision = Decision.fit(
        classifier.scorer.score(dev.iter_texts()),
        space.encode(dev),
        "multi",
        threshold_metric="f1_micro",
        seed=config.seed,
    )
    saved = read_predictions(result.folder / "predictions.parquet")
    odds = np.log(saved.probabilities) - np.log1p(-saved.probabilities)
    found = evaluate(odds * classifier.decision.temperature, saved.gold, decision, space, seed=config.seed)
    return {key: found[key] for key in FIGURES if key in found} | {
        "intervals": {key: found["intervals"][key] for key in FIGURES if key in found["intervals"]}
    }


def keep(row: dict[str, Any]) -> None:
    """Add or replace this set, model and seed in quality.json."""
    path = RESULTS / "quality.json"
    rows = json.loads(path.read_text()) if path.exists() else []

    def key(entry: dict[str, Any]) -> tuple[Any, ...]:
        return entry["set"], entry["method"], spec(entry), entry["seed"]

    rows = sorted([r for r in rows if key(r) != key(row)] + [row], key=key)
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(markdown(rows))


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Quality of `sortal train`",
        "",
        "Test figures with 95 % bootstrap intervals over test rows. Each row's command is in quality.json.",
        "",
        "| set | method | base model | seed | train / test rows | accuracy | micro-F1 | macro-F1 | ECE | epochs | training | real tokens/s | texts/s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        note = f" ({r['base_model']['note']})" if r["base_model"] and r["base_model"]["note"] else ""
        lines.append(line(r, r, "", note))
        if "thresholds_for_micro" in r:
            lines.append(line(r, r["thresholds_for_micro"], ", thresholds tuned for micro-F1", note))
    return "\n".join(lines) + "\n"


def line(r: dict[str, Any], decided: dict[str, Any], how: str, note: str) -> str:
    figures = " | ".join(figure(decided, key) for key in FIGURES)
    return (
        f"| {r['set']}{how} | {r['method']} | {spec(r)}{note} | {r['seed']} | {r['rows']['train']:,} / {r['test_rows']:,} | {figures} "
        f"| {number(r['settings'].get('epochs'))} | {duration(r)} | {number(r['training'].get('tokens_per_second'))} "
        f"| {r['inference']['texts_per_second']:,.0f} |"
    )


def spec(row: dict[str, Any]) -> str:
    return row["base_model"]["spec"] if row["base_model"] else "–"


def duration(row: dict[str, Any]) -> str:
    seconds = row["training"]["train_seconds"]
    return f"{seconds / 60:.1f} min" if seconds >= 6 else f"{seconds:.1f} s"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def figure(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return "–"
    low_high = row["intervals"].get(key)
    return f"{row[key]:.3f}" + (f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else "")


def show() -> None:
    table = Table(title="Quality and cost")
    rows = json.loads((RESULTS / "quality.json").read_text())
    for name in ("set", "method", "seed", *FIGURES, "training", "tokens/s"):
        table.add_column(name)
    for r in rows:
        cost = (duration(r), number(r["training"].get("tokens_per_second")))
        table.add_row(r["set"], r["method"], str(r["seed"]), *[figure(r, key) for key in FIGURES], *cost)
    Console().print(table)


if __name__ == "__main__":
    main()
