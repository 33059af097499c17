"""Finished runs with chosen labels and answers, as folders, without training anything."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np

from sortal.config import build_config
from sortal.evaluation.decision import Decision
from sortal.evaluation.metrics import evaluate
from sortal.evaluation.predictions import write_predictions


def write_run(
    folder, names, task="single", n=120, *, seed=0, method="tfidf", ids=None, training=None, **settings
):
    """A run whose answers are right for about two rows in three; its data files do not exist."""
    rng = np.random.default_rng(seed)
    space = SimpleNamespace(names=tuple(names), task=task)
    if task == "single":
        gold = rng.integers(0, len(names), n)
        scores = rng.normal(size=(n, len(names)))
        scores[np.arange(n), gold] += 2.5
        decision = Decision("single", abstain_below=settings.get("abstain_below"))
    else:
        gold = (rng.random((n, len(names))) < min(0.3, 4 / len(names))).astype(np.uint8)
        scores = rng.normal(size=gold.shape) * 1.5 + 3 * gold - 2
        decision = Decision("multi", thresholds=tuple(rng.uniform(0.3, 0.6, len(names)).tolist()))
    folder.mkdir(parents=True)
    p = decision.probabilities(scores)
    ids = [str(i + 1) for i in range(n)] if ids is None else ids
    write_predictions(folder / "predictions.parquet", ids, p, decision.decide(p), space, gold=gold)
    metrics = {"split": "test", **evaluate(scores, gold, decision, space, n_resamples=50)}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    given = {"method": method, "data": "no-such-file.csv", "seed": seed, "blend": "none"}
    config = build_config(given | settings)
    record = {
        "status": "finished",
        "config": config.model_dump(mode="json"),
        "data": {
            part: {"rows": n, "source": "no-such-file.csv", "fingerprint": f"{part}-hash"}
            for part in ("train", "dev", "test")
        },
        "training": {"train_seconds": 3.0, **(training or {})},
        "inference": {"texts_per_second": 100.0, "seconds_per_text_alone": 0.001},
        "environment": {"versions": {"sortal": "0.1.0"}, "device": "cpu"},
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def layer_curve(layers=12, chosen=7):
    """`training` of a probe: two templates, two poolings, two values of C; the metric peaks at ``chosen``."""
    tried = [
        {"template": t, "pooling": p, "layer": k, "c": c, "accuracy": 0.5, "metric": 0.9 - 0.02 * abs(k - chosen) - lower - less}
        for t, p, lower in (("summary", "last", 0.0), ("summary", "mean", 0.05), ("eos", "last", 0.1), ("eos", "mean", 0.2))
        for k in range(1, layers + 1)
        for c, less in ((1.0, 0.0), (10.0, 0.01))
    ]  # fmt: skip
    return {"layers": tried, "layer": chosen, "template": "summary", "pooling": "last"}
