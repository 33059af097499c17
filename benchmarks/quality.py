"""Quality and cost of ``sortal train`` on public data sets, one row per set and seed, from the runs' own records.

    python -m benchmarks.quality --sets banking77 reuters21578 goemotions --seeds 0 --runs runs/quality

Looks for the data sets in $SORTAL_DATA (or --data). Every cell is a resumable run; a finished one is only read, so the
command can be stopped and given again. Writes benchmarks/results/quality.json and quality.md.
"""

from __future__ import annotations

import argparse
import json
import os
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
}
FIGURES = ("accuracy", "f1_micro", "f1_macro", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SORTAL_DATA"), help="folder of the data sets"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    rows = []
    for name in arguments.sets:
        for seed in arguments.seeds:
            rows.append(cell(name, seed, arguments.model, Path(arguments.data), arguments.runs))
            keep(rows[-1])
    show()


def cell(name: str, seed: int, model: str, data: Path, runs: Path) -> dict[str, Any]:
    """One finished run: its settings, figures with intervals, cost and environment."""
    from sortal.config import RunConfig, build_config
    from sortal.run import run

    settings = dict(SETS[name])
    for key in ("data", "dev", "test"):
        if key in settings:
            settings[key] = str(data / name / settings[key])
    out = runs / f"{name}-{model}-{seed}"
    result = run(build_config({**settings, "model": model, "seed": seed, "out": str(out)}), resume=True)
    training, metrics = result.record["training"], result.metrics
    config = build_config(
        {key: value for key, value in result.record["config"].items() if key in RunConfig.model_fields}
    )
    return {
        "set": name,
        "seed": seed,
        "command": f"python -m benchmarks.quality --sets {name} --seeds {seed} --model {model}",
        "base_model": result.record["base_model"],
        "settings": {
            **SETS[name],
            "epochs": result.record["config"]["epochs"],
            "batch_size": result.record["config"]["batch_size"],
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
            )
        },
        "history": training["history"],
        "inference": result.record["inference"],
        "environment": result.record["environment"],
    }


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
        return entry["set"], entry["base_model"]["spec"], entry["seed"]

    rows = sorted([r for r in rows if key(r) != key(row)] + [row], key=key)
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(markdown(rows))


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Quality of `sortal train`, method head",
        "",
        "Test figures with 95 % bootstrap intervals over test rows. Each row's command is in quality.json.",
        "",
        "| set | base model | seed | train / test rows | accuracy | micro-F1 | macro-F1 | ECE | epochs | training | real tokens/s | texts/s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        note = f" ({r['base_model']['note']})" if r["base_model"]["note"] else ""
        lines.append(line(r, r, "", note))
        if "thresholds_for_micro" in r:
            lines.append(line(r, r["thresholds_for_micro"], ", thresholds tuned for micro-F1", note))
    return "\n".join(lines) + "\n"


def line(r: dict[str, Any], decided: dict[str, Any], how: str, note: str) -> str:
    figures = " | ".join(figure(decided, key) for key in FIGURES)
    return (
        f"| {r['set']}{how} | {r['base_model']['spec']}{note} | {r['seed']} | {r['rows']['train']:,} / {r['test_rows']:,} | {figures} "
        f"| {r['settings']['epochs']} | {r['training']['train_seconds'] / 60:.1f} min | {r['training']['tokens_per_second']:,.0f} "
        f"| {r['inference']['texts_per_second']:,.0f} |"
    )


def figure(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return "–"
    low_high = row["intervals"].get(key)
    return f"{row[key]:.3f}" + (f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else "")


def show() -> None:
    table = Table(title="Quality and cost")
    rows = json.loads((RESULTS / "quality.json").read_text())
    for name in ("set", "seed", *FIGURES, "minutes", "tokens/s"):
        table.add_column(name)
    for r in rows:
        cost = (f"{r['training']['train_seconds'] / 60:.1f}", f"{r['training']['tokens_per_second']:,.0f}")
        table.add_row(r["set"], str(r["seed"]), *[figure(r, key) for key in FIGURES], *cost)
    Console().print(table)


if __name__ == "__main__":
    main()
