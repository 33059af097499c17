import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.special import logsumexp

from sortal.data.labels import LabelSpace
from sortal.hierarchy.units import unit_plan
from sortal.methods.linear import Linear, fit_linear
from sortal.methods.tree_linear import tempered
from trees import SMALL, random_scores

NAMES = ("B32", "D06C", "D06Q", "D07")


def nll(scores, gold):
    return float((logsumexp(scores, axis=1) - scores[np.arange(len(gold)), gold]).sum())


def test_a_label_is_fitted_on_the_rows_it_is_asked_about():
    rng = np.random.default_rng(0)
    x = csr_matrix(rng.random((40, 5)))
    targets = (rng.random((40, 2)) < 0.5).astype(np.uint8)
    among = np.ones((40, 2), bool)
    among[25:, 1] = False
    targets[25:, 1] = 0
    found = fit_linear(x, targets, 2, "svm", 1.0, seed=0, among=among)
    alone = fit_linear(x[:25], targets[:25], 2, "svm", 1.0, seed=0)
    whole = fit_linear(x, targets, 2, "svm", 1.0, seed=0)
    np.testing.assert_array_equal(found.score(x)[:, 1], alone.score(x)[:, 1])
    np.testing.assert_array_equal(found.score(x)[:, 0], whole.score(x)[:, 0])


@pytest.mark.parametrize("mode", ["levels", "conditional"])
@pytest.mark.parametrize("size", [0.5, 5.0])
def test_values_of_any_size_become_choices_that_make_dev_likely(mode, size):
    space = LabelSpace(NAMES, "single", SMALL)
    units = unit_plan(space, mode)
    gold = np.random.default_rng(1).integers(0, 4, 200)
    values = (random_scores(2, 200, len(units.names), 1.0) + units.targets(gold)) * np.float32(size)
    weights = csr_matrix(np.ones((3, len(units.names)), np.float32))
    linear, scores = tempered(
        Linear(weights, np.ones(len(units.names), np.float32)), values, units, gold, "single"
    )
    t = 1 / float(linear.bias[0])
    np.testing.assert_allclose(linear.weights.toarray(), 1 / t, rtol=1e-6)
    np.testing.assert_allclose(scores, units.scores(values / np.float32(t)), atol=1e-4)
    for other in (0.7 * t, 1.4 * t):
        assert nll(units.scores(values / np.float32(other)).astype(float), gold) > nll(
            scores.astype(float), gold
        )


def test_without_dev_rows_nothing_changes():
    units = unit_plan(LabelSpace(NAMES, "single", SMALL), "levels")
    plain = Linear(
        csr_matrix(np.ones((1, len(units.names)), np.float32)), np.ones(len(units.names), np.float32)
    )
    none = np.zeros((0, len(units.names)), np.float32)
    linear, scores = tempered(plain, none, units, np.zeros(0, np.int64), "single")
    assert scores.shape == (0, 4)
    np.testing.assert_array_equal(linear.bias, plain.bias)
