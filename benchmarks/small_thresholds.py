"""Thresholds tuned on a handful of dev rows: as they come, drawn towards 0.5, and 0.5, on rows that they were not tuned on.

    python -m benchmarks.small_thresholds RUN…     # finished multi-label runs, for instance of benchmarks.quality

Draws dev rows out of a run's test predictions and measures on the others. Writes benchmarks/results/small_thresholds.json and small_thresholds.md.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.tables import table

RESULTS = Path(__file__).parent / "results"
SIZES, METRICS = (3, 5, 10, 19), ("f1_macro", "f1_micro")
FORMS: dict[str, dict[str, Any]] = {
    "as it is": {"mode": "global", "shrinkage": 0.0},
    "drawn towards 0.5": {"mode": "global"},
    "0.5": {"mode": "none"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--draws", type=int, default=100)
    arguments = parser.parse_args()
    found = {
        "command": f"python -m benchmarks.small_thresholds {' '.join(run.name for run in arguments.runs)}",
        "draws": arguments.draws,
        "runs": {run.name: measure(run, arguments.draws) for run in arguments.runs},
    }
    (RESULTS / "small_thresholds.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "small_thresholds.md").write_text(markdown(found))


def measure(run: Path, draws: int) -> list[dict[str, Any]]:
    """F1 on the other rows: mean over the draws, its 95 % interval, and what one draw in ten falls below."""
    from sortal.evaluation.predictions import read_predictions
    from sortal.evaluation.thresholds import tune_thresholds

    kept = read_predictions(run / "predictions.parquet")
    p, gold = np.asarray(kept.probabilities, np.float64), np.asarray(kept.gold).astype(np.uint8)
    rng, found = np.random.default_rng(0), []
    for rows in SIZES:
        orders = [rng.permutation(len(p)) for _ in range(draws)]
        metric: Literal["f1_macro", "f1_micro"]
        for metric in ("f1_macro", "f1_micro"):
            for form, arguments in FORMS.items():
                values = []
                for order in orders:
                    dev, others = order[:rows], order[rows:]
                    limits = tune_thresholds(p[dev], gold[dev], metric=metric, **arguments)
                    values.append(_f1(p[others] >= limits, gold[others] > 0, metric))
                error = 1.96 * np.std(values) / np.sqrt(draws)
                mean, low = float(np.mean(values)), float(np.percentile(values, 10))
                found.append(
                    {"rows": rows, "metric": metric, "form": form, "mean": mean, "error": error, "tenth": low}
                )
    return found


def _f1(given: np.ndarray[Any, Any], gold: np.ndarray[Any, Any], metric: str) -> float:
    hits, both = (given & gold).sum(axis=0), given.sum(axis=0) + gold.sum(axis=0)
    if metric == "f1_micro":
        return float(2 * hits.sum() / both.sum())
    return float(np.mean(2 * hits / np.maximum(both, 1)))


def markdown(found: dict[str, Any]) -> str:
    """A table per run."""
    lines = [
        "# Thresholds from a handful of dev rows",
        "",
        f"`{found['command']}`: one threshold for all labels, tuned on rows drawn from a run's test predictions and measured on the others; mean of {found['draws']} draws ± 95 %, and in brackets what one draw in ten falls below.",
    ]
    for run, entries in found["runs"].items():
        by_size = []
        for rows, metric in product(SIZES, METRICS):
            mine = [e for e in entries if (e["rows"], e["metric"]) == (rows, metric)]
            means = [f"{e['mean']:.3f} ± {e['error']:.3f} ({e['tenth']:.3f})" for e in mine]
            by_size.append([str(rows), metric.removeprefix("f1_"), *means])
        lines += ["", f"## {run}", "", *table(["dev rows", "F1", *FORMS], by_size)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
