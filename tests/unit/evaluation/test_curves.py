from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

from sortal.evaluation.curves import coverage_curve, precision_recall, threshold_sweep


def drawn(n=200, seed=0, digits=2):
    """Probabilities with ties, and gold that follows them."""
    rng = np.random.default_rng(seed)
    p = rng.random(n).round(digits)
    return p, (rng.random(n) < p).astype(np.uint8)


def test_precision_and_recall_are_those_of_scikit_learn():
    p, gold = drawn()
    curve = precision_recall(p, gold, points=1000)
    precision, recall, _ = precision_recall_curve(gold, p)
    expected = set(zip(recall.round(9).tolist(), precision.round(9).tolist(), strict=True))
    mine = list(zip(curve.recall.round(9).tolist(), curve.precision.round(9).tolist(), strict=True))
    assert set(mine) <= expected
    assert mine == sorted(mine, key=lambda point: point[0])
    assert curve.recall[-1] == 1
    assert curve.average == pytest.approx(average_precision_score(gold, p))


def test_a_long_curve_keeps_few_points_and_both_ends():
    p, gold = drawn(5000, digits=6)
    whole, few = precision_recall(p, gold, points=10**6), precision_recall(p, gold, points=20)
    assert len(few.recall) <= 20 < len(whole.recall)
    assert (few.recall[0], few.recall[-1]) == (whole.recall[0], 1.0)
    assert few.average == whole.average
    assert set(few.recall.tolist()) <= set(whole.recall.tolist())


def test_a_label_without_rows_has_no_curve():
    curve = precision_recall(np.array([0.2, 0.9]), np.zeros(2))
    assert len(curve.recall) == 0
    assert np.isnan(curve.average)


def test_one_threshold_for_all_labels_gives_the_micro_figures_of_its_answers():
    rng = np.random.default_rng(1)
    p = rng.random((50, 4)).round(1)
    gold = (rng.random((50, 4)) < p).astype(np.uint8)
    thresholds = np.array([0.2, 0.5, 2.0])
    swept = threshold_sweep(p, gold, thresholds)
    for k, threshold in enumerate(thresholds[:2]):
        given = (p >= threshold).astype(int)
        assert swept["f1"][k] == pytest.approx(f1_score(gold, given, average="micro"))
        assert swept["precision"][k] == pytest.approx((given & gold).sum() / given.sum())
        assert swept["recall"][k] == pytest.approx((given & gold).sum() / gold.sum())
    assert np.isnan(swept["precision"][2])  # nothing is given: there is no precision
    assert swept["f1"][2] == swept["recall"][2] == 0


def test_coverage_runs_from_the_most_confident_rows_to_all():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]])
    coverage, accuracy = coverage_curve(p, np.array([0, 0, 0, 1]))
    # The last two are equally confident, so they are answered together.
    assert coverage.tolist() == [0.25, 0.5, 1.0]
    assert accuracy.tolist() == [1.0, 0.5, 0.5]
