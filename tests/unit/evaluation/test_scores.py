import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import expit
from scipy.special import softmax as scipy_softmax

from sortal.errors import DataError, ModelError
from sortal.evaluation.scores import check_gold, sigmoid, softmax

tables = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-(2.0**99), 2.0**99, width=32),
)


@given(tables, st.floats(0.05, 20))
def test_softmax_rows_sum_to_one_and_match_scipy(scores, temperature):
    p = softmax(scores, temperature)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(p, scipy_softmax(scores.astype(np.float64) / temperature, axis=1), atol=1e-12)


@given(tables, st.floats(0.05, 20))
def test_sigmoid_matches_scipy(scores, temperature):
    p = sigmoid(scores, temperature)
    assert p.dtype == np.float64
    np.testing.assert_array_equal(p, expit(scores.astype(np.float64) / temperature))


def test_scores_are_left_untouched():
    scores = np.array([[1.0, 2.0]])
    softmax(scores, 2.0)
    sigmoid(scores, 2.0)
    np.testing.assert_array_equal(scores, [[1.0, 2.0]])


def test_minus_infinity_is_probability_zero():
    scores = np.array([[0.0, -np.inf, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(softmax(scores), [[0.5, 0.0, 0.5]])
    np.testing.assert_array_equal(sigmoid(scores), [[0.5, 0.0, 0.5]])


@pytest.mark.parametrize("bad", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_a_row_without_softmax_is_named(bad):
    with pytest.raises(ModelError, match="row 2 of the scores"):
        softmax(np.array([[0.0, 1.0], bad, bad]))


def test_a_row_without_sigmoid_is_named():
    with pytest.raises(ModelError, match="row 3 of the scores has a NaN"):
        sigmoid(np.array([[0.0], [np.inf], [np.nan]]))


def test_scores_must_be_a_table_with_labels():
    with pytest.raises(ModelError, match="shape"):
        softmax(np.zeros(3))
    with pytest.raises(ModelError, match="shape"):
        sigmoid(np.zeros((3, 0)))


@pytest.mark.parametrize(
    ("gold", "task", "message"),
    [
        ([0, 2], "single", "row 2 of the gold labels"),
        ([0, -1], "single", "row 2 of the gold labels"),
        ([0], "single", "shape"),
        ([[0, 1], [0, 2]], "multi", "row 2 of the gold labels"),
        ([0, 1], "multi", "shape"),
    ],
)
def test_gold_that_does_not_fit_is_refused(gold, task, message):
    with pytest.raises(DataError, match=message):
        check_gold(np.array(gold), 2, 2, task)
