import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from sortal.errors import DataError, ModelError
from sortal.evaluation import metrics as module
from sortal.evaluation.calibration import calibration
from sortal.evaluation.decision import Decision
from sortal.evaluation.intervals import basic_interval, percentile_interval, resample_counts
from sortal.evaluation.metrics import evaluate


def space(n_labels, task):
    return SimpleNamespace(names=tuple(f"label {k}" for k in range(n_labels)), task=task)


def single(seed, n, n_labels, skill=2.0):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, max(1, n_labels - 1), n)  # the last label never occurs in gold
    scores = rng.normal(size=(n, n_labels)).astype(np.float32)
    scores[np.arange(n), gold] += skill
    return scores, gold


def multi(seed, n, n_labels):
    rng = np.random.default_rng(seed)
    gold = (rng.random((n, n_labels)) < 0.25).astype(np.uint8)
    return (rng.normal(size=gold.shape) + 2.0 * gold - 1).astype(np.float32), gold


def sk_f1(gold, predicted, labels, average):
    return sk.f1_score(gold, predicted, labels=labels, average=average, zero_division=0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 6), st.sampled_from([None, 0.6]))
def test_single_label_figures_equal_sklearn(seed, n, n_labels, abstain):
    scores, gold = single(seed, n, n_labels)
    decision = Decision("single", 1.3, abstain_below=abstain)
    result = evaluate(scores, gold, decision, space(n_labels, "single"), n_resamples=0)
    p = decision.probabilities(scores)
    predicted = decision.decide(p)
    labels = np.arange(n_labels)
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(gold, predicted), abs=1e-12)
    for average in ("micro", "macro", "weighted"):
        assert result[f"f1_{average}"] == pytest.approx(sk_f1(gold, predicted, labels, average), abs=1e-12)
    assert result["log_loss"] == pytest.approx(sk.log_loss(gold, p, labels=labels), abs=1e-12)
    rows = sk.precision_recall_fscore_support(gold, predicted, labels=labels, zero_division=0)
    for k, entry in enumerate(result["per_label"]):
        given = [entry["precision"], entry["recall"], entry["f1"], entry["support"]]
        assert given == pytest.approx([column[k] for column in rows], abs=1e-12)
    if abstain is not None:
        answered = predicted >= 0
        assert result["coverage"] == pytest.approx(answered.mean())
        if answered.any():
            assert result["selective_accuracy"] == pytest.approx((predicted == gold)[answered].mean())
        else:
            assert result["selective_accuracy"] is None


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 6))
def test_multi_label_figures_equal_sklearn(seed, n, n_labels):
    scores, gold = multi(seed, n, n_labels)
    decision = Decision("multi", 0.8, tuple(np.linspace(0.3, 0.7, n_labels)))
    result = evaluate(scores, gold, decision, space(n_labels, "multi"), n_resamples=0)
    p = decision.probabilities(scores)
    predicted = decision.decide(p)
    # scikit-learn reads one column as a binary task: measure the positive class of each column instead
    f1 = [sk.f1_score(gold[:, k], predicted[:, k], zero_division=0) for k in range(n_labels)]
    assert [entry["f1"] for entry in result["per_label"]] == pytest.approx(f1, abs=1e-12)
    assert result["f1_macro"] == pytest.approx(np.mean(f1), abs=1e-12)
    assert result["subset_accuracy"] == pytest.approx((gold == predicted).all(axis=1).mean(), abs=1e-12)
    if n_labels > 1:
        for average in ("micro", "weighted", "samples"):
            assert result[f"f1_{average}"] == pytest.approx(sk_f1(gold, predicted, None, average), abs=1e-12)
    columns = [k for k in range(n_labels) if gold[:, k].any()]
    ap = [sk.average_precision_score(gold[:, k], scores[:, k]) for k in columns]
    assert result["map"] == (pytest.approx(np.mean(ap), abs=1e-12) if ap else None)
    losses = [sk.log_loss(gold[:, k], p[:, k], labels=[0, 1]) for k in range(n_labels)]
    assert result["log_loss"] == pytest.approx(np.mean(losses), abs=1e-12)
    assert "accuracy" not in result


def resampled(statistic, n, n_resamples, seed):
    blocks = np.concatenate(list(resample_counts(n, n_resamples, seed)), axis=1).astype(int)
    return [statistic(np.repeat(np.arange(n), blocks[:, r])) for r in range(n_resamples)]


def captured(monkeypatch):
    """Collect the resampled values that evaluate makes its intervals of."""
    seen = {}
    original = module.bootstrap

    def spy(*args):
        values = original(*args)
        seen.update(values)
        return values

    monkeypatch.setattr(module, "bootstrap", spy)
    return seen


def brute_macro(gold, predicted, n_labels):
    """Mean F1 over the labels of the resample and those that the whole set lacks as well."""
    there = {k for k in range(n_labels) if (gold[k] | predicted[k]).any()}

    def macro(rows):
        kept = [k for k in range(n_labels) if k not in there or (gold[k] | predicted[k])[rows].any()]
        return np.mean([sk.f1_score(gold[k][rows], predicted[k][rows], zero_division=0) for k in kept])

    return macro


def test_the_single_label_bootstrap_equals_brute_force(monkeypatch):
    n, n_labels, resamples = 25, 7, 40
    scores, gold = single(1, n, n_labels, skill=1.0)
    scores[:, 6] = -9  # a label without rows or predictions
    decision = Decision("single", abstain_below=0.35)
    seen = captured(monkeypatch)
    result = evaluate(scores, gold, decision, space(n_labels, "single"), n_resamples=resamples, seed=3)
    p = decision.probabilities(scores)
    predicted = decision.decide(p)
    labels = np.arange(n_labels)
    assert 0 < (predicted >= 0).mean() < 1
    expected = {
        "accuracy": lambda i: np.mean(gold[i] == predicted[i]),
        "f1_micro": lambda i: sk_f1(gold[i], predicted[i], labels, "micro"),
        "f1_weighted": lambda i: sk_f1(gold[i], predicted[i], labels, "weighted"),
        "f1_macro": brute_macro([gold == k for k in labels], [predicted == k for k in labels], n_labels),
        "coverage": lambda i: np.mean(predicted[i] >= 0),
        "selective_accuracy": lambda i: np.mean((gold == predicted)[i][predicted[i] >= 0]),
        "log_loss": lambda i: -np.log(p[np.arange(n), gold])[i].mean(),
        "ece": lambda i: calibration(p[i], gold[i], "single").ece,
    }
    for name, statistic in expected.items():
        np.testing.assert_allclose(
            seen[name], resampled(statistic, n, resamples, 3), rtol=0, atol=1e-12, err_msg=name
        )
        interval = (
            basic_interval(seen[name], result["ece"]) if name == "ece" else percentile_interval(seen[name])
        )
        assert result["intervals"][name] == interval
    assert "40 resamples, seed 3" in result["interval_method"]
    assert result["labels_without_rows"] == 1


def test_the_multi_label_bootstrap_equals_brute_force(monkeypatch):
    n, n_labels, resamples = 20, 5, 30
    scores, gold = multi(2, n, n_labels)
    gold[:, 4], scores[:, 4] = 0, -9
    gold[:, 3] = 0
    gold[7, 3] = 1  # missing from many resamples
    decision = Decision("multi", thresholds=(0.5, 0.4, 0.6, 0.9, 0.5))
    seen = captured(monkeypatch)
    evaluate(scores, gold, decision, space(n_labels, "multi"), n_resamples=resamples, seed=1)
    p = decision.probabilities(scores)
    predicted = decision.decide(p)

    def mean_ap(i):
        return np.mean(
            [
                sk.average_precision_score(gold[i, k], scores[i, k])
                for k in range(n_labels)
                if gold[i, k].any()
            ]
        )

    expected = {
        "f1_micro": lambda i: sk_f1(gold[i], predicted[i], None, "micro"),
        "f1_weighted": lambda i: sk_f1(gold[i], predicted[i], None, "weighted"),
        "f1_samples": lambda i: sk_f1(gold[i], predicted[i], None, "samples"),
        "f1_macro": brute_macro(gold.T.astype(bool), predicted.T.astype(bool), n_labels),
        "subset_accuracy": lambda i: (gold == predicted).all(axis=1)[i].mean(),
        "map": mean_ap,
        "ece": lambda i: calibration(p[i], gold[i], "multi").ece,
    }
    for name, statistic in expected.items():
        np.testing.assert_allclose(
            seen[name], resampled(statistic, n, resamples, 1), rtol=0, atol=1e-12, err_msg=name
        )


def test_every_figure_of_the_contract_has_an_interval_that_holds_it():
    for task, data in (("single", single(0, 300, 5)), ("multi", multi(0, 300, 5))):
        result = evaluate(*data, Decision(task), space(5, task), n_resamples=200)
        names = {"f1_micro", "f1_macro", "f1_weighted", "ece", "log_loss"}
        if task == "single":
            names |= {"accuracy"}
        else:
            names |= {"f1_samples", "subset_accuracy", "map"}
            names |= {f"{name}_at_{k}" for name in ("p", "r", "ndcg") for k in (1, 3, 5)}
            names -= {"r_at_5"}  # 1 with five labels, whatever rows are drawn
        assert set(result["intervals"]) == names
        for name, (low, high) in result["intervals"].items():
            assert low <= result[name] <= high


def test_a_mean_over_many_rare_labels_lies_within_its_interval():
    """Resamples miss the only row of most labels that are right, so that nearly all of their macro-F1 lie below it."""
    rng = np.random.default_rng(0)
    truth = np.eye(300, dtype=np.uint8)[np.arange(600) % 300]  # two rows of each label
    said = (truth & (rng.random(600) < 0.4)[:, None]) | (rng.random((600, 300)) < 0.003)
    result = evaluate(18.0 * said - 9, truth, Decision("multi"), space(300, "multi"), n_resamples=200)
    low, high = result["intervals"]["f1_macro"]
    assert low < result["f1_macro"] <= high


def test_the_same_seed_gives_the_same_file():
    scores, gold = single(0, 60, 3)
    first, second, other = (
        evaluate(scores, gold, Decision("single"), space(3, "single"), seed=s) for s in (1, 1, 2)
    )
    assert json.dumps(first) == json.dumps(second) != json.dumps(other)


def test_no_wrong_row_does_not_claim_certainty():
    scores = np.array([[4.0, 0.0], [0.0, 4.0]] * 10)
    result = evaluate(scores, np.array([0, 1] * 10), Decision("single"), space(2, "single"), n_resamples=100)
    low, high = result["intervals"]["accuracy"]
    assert high == 1
    assert 0.8 < low < 0.9
    assert "Clopper" in result["interval_method"]
    assert result["intervals"]["f1_micro"] == [low, high], "with one label per row it is the same figure"
    assert (result["f1_macro"], result["intervals"].get("f1_macro")) == (1, None)
    assert "f1_macro: none, because all resamples agree" in result["interval_method"]


def test_no_wrong_answer_does_not_claim_certainty_about_those_that_are_given():
    scores = np.array([[4.0, 0.0], [0.0, 4.0]] * 10 + [[0.0, 0.1]] * 30)
    gold = np.array([0, 1] * 10 + [0] * 30)
    result = evaluate(scores, gold, Decision("single", abstain_below=0.9), space(2, "single"))
    assert result["selective_accuracy"] == 1
    assert result["intervals"]["selective_accuracy"] == pytest.approx([0.025 ** (1 / 20), 1.0])


def test_few_map_resamples_are_said_aloud(monkeypatch):
    monkeypatch.setattr(module, "_RANKING_BUDGET", 1)
    result = evaluate(*multi(0, 30, 3), Decision("multi"), space(3, "multi"), n_resamples=150)
    assert "map: the first 100 resamples" in result["interval_method"]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("n_labels", [1, 2])
@pytest.mark.parametrize("task", ["single", "multi"])
def test_tiny_sets_are_measured_without_a_warning(n, n_labels, task):
    scores = np.linspace(-1, 1, n * n_labels).reshape(n, n_labels).astype(np.float32)
    for value in (0, 1) if task == "multi" else (0,):
        gold = np.full((n, n_labels) if task == "multi" else n, value)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = evaluate(
                scores, gold, Decision.fit(scores, gold, task), space(n_labels, task), n_resamples=100
            )
        json.dumps(result, allow_nan=False)
        assert result["n"] == n


def test_all_zero_gold():
    result = evaluate(
        np.full((4, 2), -3.0), np.zeros((4, 2)), Decision("multi"), space(2, "multi"), n_resamples=100
    )
    assert (result["subset_accuracy"], result["f1_macro"], result["f1_samples"], result["map"]) == (
        1,
        0,
        0,
        None,
    )
    assert "map" not in result["intervals"]
    assert result["labels_without_rows"] == 2
    assert result["rows_without_labels"] == 4


def test_impossible_gold_costs_a_finite_log_loss():
    result = evaluate(
        np.array([[-np.inf, 0.0]]), np.array([0]), Decision("single"), space(2, "single"), n_resamples=0
    )
    assert 30 < result["log_loss"] < 40


def test_nothing_answered():
    decision = Decision("single", abstain_below=1.0)
    result = evaluate(np.zeros((3, 2)), np.array([0, 1, 1]), decision, space(2, "single"), n_resamples=100)
    assert (result["accuracy"], result["coverage"], result["selective_accuracy"]) == (0, 0, None)
    assert result["confusions"] == []


def test_confusions_are_the_most_frequent_wrong_pairs():
    scores = np.eye(3)[[1, 1, 1, 2, 0, 0]] * 5
    result = evaluate(
        scores, np.array([0, 0, 1, 1, 2, 0]), Decision("single"), space(3, "single"), n_resamples=0
    )
    assert result["confusions"] == [
        {"gold": "label 0", "predicted": "label 1", "count": 2},
        {"gold": "label 1", "predicted": "label 2", "count": 1},
        {"gold": "label 2", "predicted": "label 0", "count": 1},
    ]


def test_multi_label_rows_carry_thresholds_and_average_precision():
    result = evaluate(
        *multi(0, 50, 2), Decision("multi", thresholds=(0.2, 0.7)), space(2, "multi"), n_resamples=0
    )
    assert [entry["threshold"] for entry in result["per_label"]] == [0.2, 0.7]
    assert np.mean([entry["average_precision"] for entry in result["per_label"]]) == pytest.approx(
        result["map"]
    )


@pytest.mark.parametrize(
    ("scores", "gold", "decision", "error", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), Decision("single"), DataError, "no rows"),
        (np.zeros((2, 3)), np.zeros(2, int), Decision("single"), ModelError, "label space has 2 labels"),
        (np.zeros((2, 2)), np.zeros(2, int), Decision("multi"), ModelError, "multi-label task"),
        (np.array([[0, 1], [np.nan, 1]]), np.zeros(2, int), Decision("single"), ModelError, "row 2"),
        (np.zeros((2, 2)), np.array([0, 5]), Decision("single"), DataError, "row 2 of the gold"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores, gold, decision, error, message):
    with pytest.raises(error, match=message):
        evaluate(scores, gold, decision, space(2, "single"))
