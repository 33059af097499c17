import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from sortal.evaluation.ranking import Rankings


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.booleans())
def test_weighted_average_precision_equals_sklearn(seed, n, ties):
    rng = np.random.default_rng(seed)
    gold = (rng.random((n, 3)) < 0.4).astype(np.uint8)
    scores = rng.integers(-2, 3, (n, 3)).astype(np.float32) if ties else rng.normal(size=(n, 3))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=4).T.astype(float)
    for k, values in enumerate(Rankings.build(scores, gold).average_precision(weights)):
        for r in range(4):
            drawn = np.repeat(np.arange(n), weights[:, r].astype(int))
            if gold[drawn, k].any():
                assert values[r] == pytest.approx(
                    average_precision_score(gold[drawn, k], scores[drawn, k]), abs=1e-12
                )
            else:
                assert np.isnan(values[r])


def test_the_mean_runs_over_labels_with_positives():
    scores = np.array([[2.0, -np.inf, 0.0], [1.0, 3.0, 0.0]])
    gold = np.array([[1, 1, 0], [0, 0, 0]])
    assert Rankings.build(scores, gold).mean_average_precision(np.ones((2, 1)))[0] == pytest.approx(
        (1 + 0.5) / 2
    )


def test_no_positive_at_all_is_undefined():
    rankings = Rankings.build(np.zeros((3, 2)), np.zeros((3, 2)))
    assert np.isnan(rankings.mean_average_precision(np.ones((3, 2)))).all()
