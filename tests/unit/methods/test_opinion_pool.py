"""Weights of classifiers whose scores are added."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_softmax

from sortal.methods.opinion_pool import best_weights


def likelihood(weights, scores, gold, task):
    z = sum(w * s for w, s in zip(weights, scores, strict=True))
    if task == "single":
        return log_softmax(z, axis=1)[np.arange(len(gold)), gold].sum()
    return np.log(np.where(gold == 1, expit(z), 1 - expit(z))).sum()


def made(task, n=400, n_labels=5, seed=0):
    """Scores of a good, a middling and a useless classifier of the same rows."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, n_labels)) * 2
    gold = (
        np.array([rng.choice(n_labels, p=np.exp(row)) for row in log_softmax(truth, axis=1)])
        if task == "single"
        else (rng.random((n, n_labels)) < expit(truth)).astype(int)
    )
    noise = rng.normal(size=(3, n, n_labels))
    return [truth + 0.5 * noise[0], truth + 1.5 * noise[1], 2 * noise[2]], gold


@pytest.mark.parametrize("task", ["single", "multi"])
def test_no_other_weights_make_the_labels_likelier(task):
    scores, gold = made(task)
    weights = best_weights(scores, gold, task, [1 / 3] * 3)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    assert weights[0] > weights[1] > weights[2]
    best = likelihood(weights, scores, gold, task)
    grid = [(a / 20, b / 20, 1 - (a + b) / 20) for a in range(21) for b in range(21 - a)]
    # The prior counts as a handful of rows.
    assert best > max(likelihood(other, scores, gold, task) for other in grid) - 2.0


def test_few_rows_stay_near_the_usual_weights():
    scores, gold = made("single", n=3)
    few = best_weights(scores, gold, "single", [1 / 3] * 3)
    assert np.abs(few - 1 / 3).max() < 0.3
    np.testing.assert_allclose(
        best_weights([s[:0] for s in scores], gold[:0], "single", [0.5, 0.3, 0.2]), [0.5, 0.3, 0.2]
    )


def test_equal_classifiers_share_and_a_shift_of_a_row_changes_nothing():
    scores, gold = made("single")
    same = best_weights([scores[0], scores[0]], gold, "single", [0.5, 0.5])
    np.testing.assert_allclose(same, [0.5, 0.5], atol=1e-4)
    weights = best_weights(scores, gold, "single", [1 / 3] * 3)
    shifted = best_weights([scores[0] + 1000.0, *scores[1:]], gold, "single", [1 / 3] * 3)
    np.testing.assert_allclose(shifted, weights, atol=1e-3)
