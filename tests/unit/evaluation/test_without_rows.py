from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sortal.evaluation.decision import Decision
from sortal.evaluation.label_metrics import LABEL_METRICS
from sortal.evaluation.metrics import evaluate
from sortal.evaluation.without_rows import without_rows


def answered(task, n=200, labels=4, seed=0):
    rng = np.random.default_rng(seed)
    if task == "single":
        gold = rng.integers(0, labels, n)
        scores = rng.normal(size=(n, labels))
        scores[np.arange(n), gold] += 1.5
    else:
        gold = (rng.random((n, labels)) < 0.4).astype(np.uint8)
        scores = rng.normal(size=(n, labels)) + 2 * gold - 1
    decision = Decision(task)
    return gold, scores, decision, decision.decide(decision.probabilities(scores))


@pytest.mark.parametrize("task", ["single", "multi"])
def test_figures_are_those_of_a_file_without_these_rows(task):
    gold, scores, decision, predicted = answered(task)
    rows = np.arange(0, 200, 3)
    found = without_rows([(gold, predicted)], 4, task, rows, n_resamples=50)
    kept = np.setdiff1d(np.arange(200), rows)
    space = SimpleNamespace(names=tuple("abcd"), task=task)
    expected = evaluate(scores[kept], gold[kept], decision, space, n_resamples=0)
    whole = evaluate(scores, gold, decision, space, n_resamples=0)
    assert found["n"] == len(kept)
    assert set(found["figures"]) == set(LABEL_METRICS[task])
    for name, value in found["figures"].items():
        assert value == pytest.approx(expected[name], abs=1e-12)
        added = found["differences"][name]
        assert added["value"] == pytest.approx(whole[name] - expected[name], abs=1e-12)
        low, high = found["intervals"][name]
        assert low <= value <= high
        assert added["interval"][0] <= added["value"] <= added["interval"][1]


def test_rows_that_are_always_right_add_what_they_are():
    gold, _, _, predicted = answered("single")
    predicted[:100] = gold[:100]
    found = without_rows([(gold, predicted)], 4, "single", np.arange(100))
    added = found["differences"]["accuracy"]
    assert added["value"] == pytest.approx((1 - (predicted[100:] == gold[100:]).mean()) / 2)
    assert added["interval"][0] > 0.05


def test_no_wrong_row_among_those_that_remain_does_not_claim_certainty():
    gold, _, _, predicted = answered("single")
    predicted[100:] = gold[100:]
    found = without_rows([(gold, predicted)], 4, "single", np.arange(100), n_resamples=50)
    assert found["figures"]["accuracy"] == 1
    for name in ("accuracy", "f1_micro"):
        assert found["intervals"][name] == pytest.approx([0.025 ** (1 / 100), 1.0])


def test_nothing_left_out_changes_nothing():
    gold, _, _, predicted = answered("single")
    found = without_rows([(gold, predicted)], 4, "single", np.zeros(0, np.int64), n_resamples=20)
    assert found["n"] == 200
    assert found["differences"]["f1_macro"] == {"value": 0.0, "interval": [0.0, 0.0]}


def test_no_row_that_remains_has_no_figures():
    gold, _, _, predicted = answered("single")
    found = without_rows([(gold, predicted)], 4, "single", np.arange(200))
    assert found == {"n": 0, "figures": {}, "intervals": {}, "differences": {}}


def test_several_runs_are_averaged():
    runs = [answered("single", seed=0)]
    gold = runs[0][0]
    other = np.where(np.arange(200) % 2, gold, (gold + 1) % 4)
    answers = [(gold, runs[0][3]), (gold, other)]
    rows = np.arange(50)
    both = without_rows(answers, 4, "single", rows, n_resamples=0)
    alone = [without_rows([one], 4, "single", rows, n_resamples=0)["figures"]["f1_macro"] for one in answers]
    assert both["figures"]["f1_macro"] == pytest.approx(np.mean(alone))
    assert both["intervals"] == {}
    assert both["differences"]["f1_macro"]["interval"] is None


def test_resamples_without_a_remaining_row_are_left_out():
    gold, predicted = np.array([0, 1, 0]), np.array([0, 1, 1])
    found = without_rows([(gold, predicted)], 2, "single", np.array([0, 1]), n_resamples=200)
    assert found["figures"]["accuracy"] == 0
    assert found["intervals"]["f1_macro"] == [0.0, 0.0]
