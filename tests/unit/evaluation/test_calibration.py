import numpy as np
import pytest

from sortal.errors import ModelError
from sortal.evaluation.calibration import TEMPERATURE_RANGE, calibration, fit_temperature
from sortal.evaluation.scores import sigmoid, softmax


def drawn_single(n, n_labels, true_temperature, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=2 * true_temperature, size=(n, n_labels))
    p = softmax(scores, true_temperature)
    gold = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return scores, gold


def drawn_multi(n, n_labels, true_temperature, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(loc=-1, scale=2 * true_temperature, size=(n, n_labels))
    return scores, (rng.random(scores.shape) < sigmoid(scores, true_temperature)).astype(np.uint8)


@pytest.mark.parametrize("truth", [0.3, 1.0, 2.5, 8.0])
def test_the_true_temperature_is_recovered(truth):
    assert fit_temperature(*drawn_single(4000, 5, truth), "single") == pytest.approx(truth, rel=0.08)
    assert fit_temperature(*drawn_multi(2000, 4, truth), "multi") == pytest.approx(truth, rel=0.08)


def test_the_fit_is_a_minimum_of_the_penalised_likelihood():
    scores, gold = drawn_single(50, 3, 2.0)

    def loss(t):
        return -np.log(softmax(scores, t)[np.arange(50), gold]).sum() + np.log(t) ** 2 / 2

    t = fit_temperature(scores, gold, "single")
    assert loss(t) <= min(loss(t * 1.01), loss(t / 1.01), *(loss(x) for x in np.geomspace(0.05, 20, 200)))


@pytest.mark.parametrize("task", ["single", "multi"])
def test_separable_scores_do_not_claim_certainty(task):
    n = 6
    scores = np.where(np.eye(2)[np.arange(n) % 2] > 0, 1.0, -1.0)
    gold = np.arange(n) % 2 if task == "single" else (scores > 0).astype(np.uint8)
    t = fit_temperature(scores, gold, task)
    assert 0.2 < t < 1
    more = fit_temperature(np.tile(scores, (200, 1)), np.concatenate([gold] * 200), task)
    assert TEMPERATURE_RANGE[0] <= more < t


def test_two_rows_barely_move_the_temperature():
    assert 0.5 < fit_temperature(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1]), "single") < 1
    assert 1 < fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 0]), "single") < 2


def test_nothing_to_learn_leaves_one():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int), "single") == 1
    assert fit_temperature(np.array([[3.0], [-1.0]]), np.array([0, 0]), "single") == 1
    assert fit_temperature(np.zeros((0, 3)), np.zeros((0, 3)), "multi") == 1


def test_an_impossible_gold_label_is_left_out():
    scores, gold = drawn_single(500, 3, 2.0)
    without = fit_temperature(scores, gold, "single")
    impossible = np.vstack([scores, [[-np.inf, 0.0, 0.0]]])
    assert fit_temperature(impossible, np.append(gold, 0), "single") == pytest.approx(without, rel=1e-4)
    multi, labels = drawn_multi(300, 3, 2.0)
    without = fit_temperature(multi, labels, "multi")
    with_row = np.vstack([multi, [[-np.inf, np.inf, -np.inf]]])
    assert fit_temperature(with_row, np.vstack([labels, [[1, 1, 0]]]), "multi") == pytest.approx(
        without, rel=1e-4
    )


def test_a_nan_score_is_refused():
    with pytest.raises(ModelError, match="row 1"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]), "single")


def test_ece_by_hand_single():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    result = calibration(p, np.array([0, 1, 1]), "single")
    # two rows at confidence 0.9, half right; one row at 0.6, right
    assert result.ece == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.4)
    filled = [b for b in result.bins if b["count"]]
    assert [(b["count"], b["accuracy"]) for b in filled] == [(1, 1.0), (2, 0.5)]
    assert all(b["low"] < b["confidence"] <= b["high"] for b in filled)


def test_ece_by_hand_multi():
    p = np.array([[0.0, 1.0], [0.5, 0.97]])
    result = calibration(p, np.array([[0, 1], [1, 1]]), "multi")
    assert result.ece == pytest.approx((0 + 0 + 0.5 + 0.03) / 4)
    assert sum(b["count"] for b in result.bins) == 4
    np.testing.assert_allclose(np.abs(result.gaps.sum(axis=0)).sum() / 4, result.ece)


def test_temperature_lowers_the_calibration_error_of_overconfident_scores():
    dev, test = drawn_single(2000, 4, 3.0, seed=1), drawn_single(2000, 4, 3.0, seed=2)
    t = fit_temperature(*dev, "single")
    assert calibration(softmax(test[0], t), test[1], "single").ece < 0.04
    assert calibration(softmax(test[0]), test[1], "single").ece > 0.1
