"""Acceptance cases S8, S10 and S17 on the side of scores, decisions and metrics."""

import inspect
import json
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit

from sortal.evaluation.decision import Decision
from sortal.evaluation.metrics import evaluate
from sortal.evaluation.predictions import read_predictions, write_predictions


def multi_sets(seed=0, n=300, n_labels=6):
    rng = np.random.default_rng(seed)
    gold = (rng.random((n, n_labels)) < np.linspace(0.02, 0.4, n_labels)).astype(np.uint8)
    return (rng.normal(size=gold.shape) + 2.5 * gold - 2).astype(np.float32), gold


@pytest.mark.parametrize("n_labels", [1, 2, 77])
def test_s8_single_label_never_yields_none_or_two_labels(n_labels):
    rng = np.random.default_rng(0)
    scores = np.vstack(
        [rng.normal(size=(500, n_labels)), np.zeros((1, n_labels)), np.full((1, n_labels), -1e30)]
    )
    decision = Decision.fit(scores, rng.integers(0, n_labels, len(scores)), "single")
    labels = decision.decide(decision.probabilities(scores))
    assert labels.shape == (502,)
    assert ((labels >= 0) & (labels < n_labels)).all()
    np.testing.assert_allclose(decision.probabilities(scores).sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("n_labels", [1, 2, 6])
def test_s8_multi_label_uses_an_independent_sigmoid_per_label(n_labels):
    scores, gold = multi_sets(n_labels=n_labels)
    decision = Decision.fit(scores, gold, "multi")
    p = decision.probabilities(scores)
    np.testing.assert_allclose(p, expit(scores.astype(np.float64) / decision.temperature), rtol=1e-12)
    alone = decision.probabilities(scores[:, :1])
    np.testing.assert_array_equal(alone[:, 0], p[:, 0])  # other labels play no part
    given = decision.decide(p).sum(axis=1)
    assert given.min() == 0
    assert given.max() == n_labels if n_labels < 3 else given.max() >= 2


def test_s8_a_row_scored_alone_gets_the_label_it_gets_in_a_batch():
    for task, (scores, gold) in (("multi", multi_sets()), ("single", (multi_sets()[0], np.arange(300) % 6))):
        decision = Decision.fit(scores, gold, task)
        batch = decision.probabilities(scores)
        alone = np.vstack([decision.probabilities(scores[k : k + 1]) for k in range(len(scores))])
        np.testing.assert_array_equal(batch, alone)
        labels = [decision.decide(row[None])[0] for row in alone]
        np.testing.assert_array_equal(decision.decide(batch), labels)


def test_s10_a_saved_decision_gives_identical_labels_everywhere(tmp_path):
    dev, dev_gold = multi_sets(seed=1)
    test, test_gold = multi_sets(seed=2)
    space = SimpleNamespace(names=tuple("abcdef"), task="multi")
    fitted = Decision.fit(dev, dev_gold, "multi", thresholds="per_label")
    saved = tmp_path / "sortal.json"
    saved.write_text(json.dumps({"decision": fitted.to_json()}, indent=2))
    loaded = Decision.from_json(json.loads(saved.read_text())["decision"])
    p = loaded.probabilities(test)
    np.testing.assert_array_equal(fitted.decide(fitted.probabilities(test)), loaded.decide(p))
    # evaluate, the predictions file and a rerun on its probabilities agree label by label
    metrics = evaluate(test, test_gold, loaded, space, n_resamples=0)
    write_predictions(
        tmp_path / "p.parquet", [str(k) for k in range(300)], p, loaded.decide(p), space, gold=test_gold
    )
    read = read_predictions(tmp_path / "p.parquet")
    np.testing.assert_array_equal(loaded.decide(read.probabilities), read.predicted)
    assert [e["predicted"] for e in metrics["per_label"]] == read.predicted.sum(axis=0).tolist()
    assert [e["threshold"] for e in metrics["per_label"]] == list(fitted.thresholds)


def test_s10_evaluation_cannot_move_the_thresholds():
    dev, dev_gold = multi_sets(seed=1)
    decision = Decision.fit(dev, dev_gold, "multi")
    before = json.dumps(decision.to_json())
    test, test_gold = multi_sets(seed=2)
    evaluate(test, test_gold, decision, SimpleNamespace(names=tuple("abcdef"), task="multi"), n_resamples=0)
    assert json.dumps(decision.to_json()) == before
    with pytest.raises(AttributeError):
        decision.thresholds = (0.5,) * 6  # type: ignore[misc]
    assert "gold" not in inspect.signature(Decision.decide).parameters


def test_s10_tuning_on_dev_helps_on_test():
    space = SimpleNamespace(names=tuple("abcdef"), task="multi")
    dev, test = multi_sets(seed=1, n=1500), multi_sets(seed=2, n=1500)
    f1 = {
        mode: evaluate(*test, Decision.fit(*dev, "multi", thresholds=mode), space, n_resamples=0)["f1_macro"]
        for mode in ("none", "global", "auto")
    }
    assert f1["none"] < f1["global"]
    assert f1["none"] < f1["auto"]


def peak_of_evaluate(n, n_labels, n_resamples):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(n, n_labels)).astype(np.float32)
    gold = rng.integers(0, n_labels, n)
    space = SimpleNamespace(names=tuple(map(str, range(n_labels))), task="single")
    tracemalloc.start()
    evaluate(scores, gold, Decision("single"), space, n_resamples=n_resamples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_s17_evaluation_memory_is_a_few_score_tables_whatever_the_resamples():
    n, n_labels = 20_000, 40
    table = n * n_labels * 8
    without, few, many = (peak_of_evaluate(n, n_labels, r) for r in (0, 100, 400))
    assert without < 6 * table
    # 400 resamples at once would be 64 MB of row counts alone; a block is 8 MB
    assert many < few + 1_000_000
    assert many - without < 50_000_000


def test_the_evaluation_package_never_loads_torch():
    modules = "sortal.evaluation.metrics, sortal.evaluation.predictions, sortal.evaluation.tables"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
