import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.errors import ConfigError, DataError, ModelError
from sortal.evaluation.decision import Decision, coverage_table
from sortal.evaluation.scores import softmax


@st.composite
def scored(draw):
    task = draw(st.sampled_from(["single", "multi"]))
    n, n_labels, seed = draw(st.integers(0, 20)), draw(st.integers(1, 5)), draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=draw(st.sampled_from([0.1, 3, 100])), size=(n, n_labels)).astype(np.float32)
    if draw(st.booleans()):
        scores[:, 1:][rng.random((n, n_labels - 1)) < 0.2] = -np.inf
    if task == "single":
        return task, scores, rng.integers(0, n_labels, n)
    return task, scores, (rng.random((n, n_labels)) < 0.3).astype(np.uint8)


@settings(deadline=None)
@given(scored(), st.booleans(), st.sampled_from(["auto", "global", "per_label", "none"]))
def test_every_decision_is_legal_and_survives_json(data, scaling, mode):
    task, scores, gold = data
    decision = Decision.fit(scores, gold, task, temperature_scaling=scaling, thresholds=mode)
    p = decision.probabilities(scores)
    labels = decision.decide(p)
    assert p.shape == scores.shape
    assert ((p >= 0) & (p <= 1)).all()
    if task == "single":
        assert labels.shape == (len(scores),)
        assert ((labels >= 0) & (labels < scores.shape[1])).all()
        assert decision.thresholds is None
    else:
        assert labels.shape == scores.shape
        assert set(np.unique(labels)) <= {0, 1}
        assert (decision.thresholds is None) == (mode == "none")
    if not scaling:
        assert decision.temperature == 1
    loaded = Decision.from_json(json.loads(json.dumps(decision.to_json())))
    assert loaded == decision
    np.testing.assert_array_equal(loaded.probabilities(scores), p)
    np.testing.assert_array_equal(loaded.decide(loaded.probabilities(scores)), labels)


def test_temperature_never_changes_a_single_label_answer():
    scores = np.random.default_rng(0).normal(size=(50, 4))
    answers = [Decision("single", t).decide(Decision("single", t).probabilities(scores)) for t in (0.1, 1, 9)]
    assert (answers[0] == answers[1]).all()
    assert (answers[1] == answers[2]).all()


def test_abstaining_rows_get_minus_one():
    decision = Decision("single", abstain_below=0.7)
    np.testing.assert_array_equal(decision.decide(np.array([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])), [0, -1, 1])


def test_a_probability_equal_to_the_threshold_is_given():
    np.testing.assert_array_equal(Decision("multi").decide(np.array([[0.5, 0.49]])), [[1, 0]])
    np.testing.assert_array_equal(
        Decision("multi", thresholds=(0.6, 0.1)).decide(np.array([[0.5, 0.1]])), [[0, 1]]
    )


@pytest.mark.parametrize(
    "values",
    [
        {"task": "both"},
        {"task": "single", "temperature": 0.0},
        {"task": "single", "temperature": float("nan")},
        {"task": "single", "thresholds": (0.5,)},
        {"task": "multi", "abstain_below": 0.5},
        {"task": "multi", "thresholds": (1.5,)},
        {"task": "multi", "thresholds": (float("nan"),)},
        {"task": "single", "abstain_below": -0.1},
    ],
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ConfigError):
        Decision(**values)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1},
        {"temperature": None},
        {"thresholds": "0.5"},
        {"thresholds": [2]},
        {"extra": 1},
        {"task": None},
    ],
)
def test_an_edited_decision_is_refused(change):
    saved = Decision("multi", 1.5, (0.2, 0.3)).to_json()
    with pytest.raises(ModelError, match="saved decision is damaged"):
        Decision.from_json({**saved, **change})


def test_a_missing_key_is_refused():
    saved = Decision("single").to_json()
    del saved["temperature"]
    with pytest.raises(ModelError, match="its keys are"):
        Decision.from_json(saved)


def test_thresholds_for_other_labels_are_refused():
    with pytest.raises(ModelError, match="2 thresholds, the scores have 3 labels"):
        Decision("multi", thresholds=(0.5, 0.5)).decide(np.zeros((1, 3)))


def test_gold_that_does_not_fit_is_refused():
    with pytest.raises(DataError):
        Decision.fit(np.zeros((3, 2)), np.array([0, 1]), "single")


def test_coverage_falls_and_accuracy_rises_up_the_ladder():
    rng = np.random.default_rng(0)
    p = softmax(rng.normal(scale=3, size=(3000, 3)))
    gold = (p.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1)
    table = coverage_table(p, gold)
    assert table[0] == {
        "abstain_below": 0.0,
        "answered": 3000,
        "coverage": 1.0,
        "accuracy": np.mean(p.argmax(1) == gold),
    }
    coverage = [row["coverage"] for row in table]
    accuracy = [row["accuracy"] for row in table]
    assert coverage == sorted(coverage, reverse=True)
    assert accuracy == sorted(accuracy)
    for row in table[1:]:
        labels = Decision("single", abstain_below=row["abstain_below"]).decide(p)
        assert row["answered"] == (labels >= 0).sum()


def test_coverage_without_answers_has_no_accuracy():
    assert coverage_table(np.array([[0.5, 0.5]]), np.array([0]), (0.9,))[0]["accuracy"] is None
