from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.svm import LinearSVC

from sortal.methods import linear
from sortal.methods.frequencies import log_odds
from sortal.methods.linear import fit_linear, stop_workers
from sortal.methods.tfidf import fitting_workers

RNG = np.random.default_rng(0)
GOLD = RNG.integers(0, 3, 90)
X = csr_matrix(np.eye(3)[GOLD] @ RNG.random((3, 12)) + 0.3 * RNG.random((90, 12)))


class Seen:
    """What a view was told."""

    def __init__(self):
        self.what, self.total, self.done, self.stopped = "", 0, 0, False

    def start(self, what, total, done=0):
        self.what, self.total = what, total

    def advance(self, units, tokens, note=""):
        self.done += units

    def stop(self):
        self.stopped = True


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_it_learns_and_both_forms_of_gold_give_the_same(kind):
    fitted = fit_linear(X, GOLD, 3, kind, 10.0, seed=0)
    scores = fitted.score(X)
    assert (scores.argmax(axis=1) == GOLD).mean() > 0.95
    assert scores.dtype == np.float32
    multi = fit_linear(X, np.eye(3, dtype=np.uint8)[GOLD], 3, kind, 10.0, seed=0)
    assert (multi.score(X) == scores).all()


def test_each_label_is_scikit_learns_classifier_against_the_rest():
    fitted = fit_linear(X, GOLD, 3, "svm", 0.5, seed=4)
    theirs = LinearSVC(C=0.5, tol=0.1, dual=True, random_state=4).fit(X, GOLD == 1)
    assert fitted.score(X)[:, 1] == pytest.approx(theirs.decision_function(X), abs=1e-5)


def test_c_and_kind_change_the_result():
    found = [
        fit_linear(X, GOLD, 3, kind, c, seed=0).score(X)
        for kind, c in (("svm", 1.0), ("svm", 0.01), ("logistic", 1.0))
    ]
    assert not np.allclose(found[0], found[1], atol=1e-2)
    assert not np.allclose(found[0], found[2], atol=1e-2)


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_a_constant_label_gets_its_frequency_for_every_text(kind):
    gold = np.zeros((90, 3), np.uint8)
    gold[:, 1], gold[:30, 2] = 1, 1
    scores = fit_linear(X, gold, 3, kind, 1.0, seed=0).score(X)
    assert scores[:, 0] == pytest.approx(log_odds(np.array([0]), 90)[0])
    assert scores[:, 1] == pytest.approx(log_odds(np.array([90]), 90)[0])
    assert scores[:, 2].std() > 0


def test_a_label_of_one_row_is_fitted():
    gold = np.zeros((90, 2), np.uint8)
    gold[7, 1] = 1
    scores = fit_linear(X, gold, 2, "svm", 100.0, seed=0).score(X)
    assert scores[:, 1].argmax() == 7


def test_without_features_only_frequencies_remain():
    fitted = fit_linear(csr_matrix((4, 0)), np.array([0, 0, 0, 1]), 2, "svm", 1.0, seed=0)
    assert fitted.score(csr_matrix((2, 0), dtype=np.float32)) == pytest.approx(
        np.log([[3, 1 / 3]] * 2), abs=1e-6
    )


def test_beyond_the_limit_the_largest_weights_of_each_label_stay(monkeypatch):
    whole = fit_linear(X, GOLD, 3, "svm", 1.0, seed=0).weights.toarray()
    monkeypatch.setattr(linear, "MAX_WEIGHTS", 15)
    fitted = fit_linear(X, GOLD, 3, "svm", 1.0, seed=0)
    kept = fitted.weights.toarray()
    assert (np.diff(fitted.weights.tocsc().indptr) == 5).all()
    for label in range(3):
        order = np.argsort(-np.abs(whole[:, label]))
        assert (kept[order[:5], label] == whole[order[:5], label]).all()
        assert (kept[order[5:], label] == 0).all()
    # 3 × 12 weights are more than 15: scored by the sparse product
    assert fitted.score(X) == pytest.approx(X @ kept + fitted.bias, abs=1e-5)


def test_a_row_alone_has_the_scores_it_has_among_others():
    fitted = fit_linear(X, GOLD, 3, "logistic", 1.0, seed=0)
    x = X.astype(np.float32)
    together = fitted.score(x)
    assert (np.concatenate([fitted.score(x[i]) for i in range(90)]) == together).all()


def test_the_view_hears_of_every_label():
    seen = Seen()
    fit_linear(X, GOLD, 3, "svm", 0.5, seed=0, view=seen)
    assert (seen.what, seen.total, seen.done, seen.stopped) == ("svm C=0.5", 3, 3, True)


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_labels_fitted_side_by_side_are_those_fitted_one_by_one(kind):
    """Also with rows that a label is not asked about, and with a label of no row."""
    gold = np.eye(4, dtype=np.uint8)[GOLD]
    among = np.ones((len(GOLD), 4), np.bool_)
    among[::5, 1] = gold[::5, 1] != 0
    for some in (None, among):
        alone, beside = (
            fit_linear(X, gold, 4, kind, 3.0, seed=7, among=some, workers=workers) for workers in (1, 2)
        )
        np.testing.assert_array_equal(alone.weights.toarray(), beside.weights.toarray())
        np.testing.assert_array_equal(alone.bias, beside.bias)
    assert stop_workers() > 10_000_000


def test_several_processes_fit_where_there_are_threads_memory_and_much_to_do(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10e9))
    assert fitting_workers(1_000_000, 40) == 1, "done in seconds"
    assert fitting_workers(1_000_000, 1000) == 8
    assert fitting_workers(100_000_000, 3) == 2, "each copies 1.6 GB"
    assert fitting_workers(1_000_000_000, 90) == 1
