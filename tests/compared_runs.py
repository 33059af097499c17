"""Comparisons of tiny models on noisy rows."""

from __future__ import annotations

import random

from sortal.comparison.compare import compare
from tiny_runs import rows, write_csv

SETTINGS = {"dtype": "float32", "epochs": 2, "learning_rate": 1e-2, "n_resamples": 100, "threads": 1}


def noisy(path):
    """A CSV file of 300 rows, a seventh of them with a random label."""
    rng = random.Random(0)
    lines = [
        (text, rng.choice(("good", "bad", "odd")) if i % 7 == 0 else label)
        for i, (text, label) in enumerate(rows(300, ("good", "bad", "odd")))
    ]
    return write_csv(path, lines)


def compared(data, model, out, methods=("majority", "head"), seeds=2, **settings):
    """A comparison with a tiny model, two epochs and few resamples."""
    said = []
    return compare(
        str(data), methods=methods, seeds=seeds, out=out, say=said.append, model=str(model), **SETTINGS, **settings
    )  # fmt: skip


def figures(found):
    """What a comparison concluded, without what a clock measured."""
    return [
        [(c["name"], c["status"], c.get("metrics")) for c in found["cells"]],
        [(m["method"], m["runs"], m["value"], m["interval"]) for m in found["methods"]],
        [{k: v for k, v in pair.items() if k != "notes"} for pair in found["pairs"]],
    ]
