from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.evaluation.frequency import LabelFrequencies
from sortal.evaluation.ranked import Ranked, first_labels, ranked


def values(scores, gold, task="multi", frequencies=None):
    found = ranked(np.asarray(scores, float), np.asarray(gold), task, frequencies)
    return {name: value[0] for name, value in found.values(np.ones((len(gold), 1))).items()}


def test_two_rows_by_hand():
    scores = [[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]]
    gold = [[1, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0]]  # the second row's label comes last
    found = values(scores, gold)
    assert found["p_at_1"] == pytest.approx((1 + 0) / 2)
    assert found["p_at_3"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["p_at_5"] == pytest.approx((2 / 5 + 0) / 2)
    assert found["r_at_1"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["r_at_5"] == pytest.approx((2 / 3 + 0) / 2)
    best = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg_at_1"] == pytest.approx(0.5)
    assert found["ndcg_at_3"] == pytest.approx((1 + 1 / np.log2(4)) / best / 2)


def test_propensity_scored_precision_by_hand():
    """Jain et al. 2016: C = (log N - 1)(B + 1)^A and 1/p = 1 + C (N_l + B)^-A, with A = 0.55, B = 1.5."""
    frequencies = LabelFrequencies(1000, np.array([500, 20, 1, 3]))
    c = (np.log(1000) - 1) * 2.5**0.55
    weight = [1 + c * (count + 1.5) ** -0.55 for count in (500, 20, 1, 3)]
    np.testing.assert_allclose(frequencies.inverse_propensities, weight)
    scores, gold = [[4, 3, 2, 1], [1, 2, 3, 4]], [[1, 0, 1, 0], [0, 1, 1, 0]]
    found = values(scores, gold, frequencies=frequencies)
    # at 1 the first row finds label 0 and could have found label 2; the second finds nothing
    assert found["psp_at_1"] == pytest.approx(weight[0] / (weight[2] + weight[2]))
    over = weight[0] + weight[2] + weight[2] + weight[1]
    assert found["psp_at_3"] == pytest.approx(over / (weight[0] + weight[2] + weight[1] + weight[2]))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(3, 12))
def test_ndcg_and_hits_are_scikit_learns(seed, n_labels):
    rng = np.random.default_rng(seed)
    scores, gold = rng.normal(size=(8, n_labels)), (rng.random((8, n_labels)) < 0.4).astype(np.uint8)
    gold[np.arange(8), rng.integers(0, n_labels, 8)] = 1
    found = values(scores, gold)
    for k in (1, 3, 5):
        if k > n_labels:
            assert f"ndcg_at_{k}" not in found
            continue
        assert found[f"ndcg_at_{k}"] == pytest.approx(sk.ndcg_score(gold, scores, k=k))
        first = np.argsort(-scores, axis=1)[:, :k]
        right = np.take_along_axis(gold, first, axis=1).sum(axis=1)
        assert found[f"p_at_{k}"] == pytest.approx((right / k).mean())
        assert found[f"r_at_{k}"] == pytest.approx((right / gold.sum(axis=1)).mean())


def test_rows_without_labels_have_no_part_in_it():
    scores, gold = np.eye(3), np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert values(scores, gold) == values(scores[[0, 2]], gold[[0, 2]])
    assert np.isnan(values(scores, np.zeros((3, 3), int))["p_at_1"])


def test_top_k_accuracy_is_scikit_learns_and_only_for_many_labels():
    rng = np.random.default_rng(0)
    scores, gold = rng.normal(size=(200, 60)), rng.integers(0, 60, 200)
    scores[np.arange(200), gold] += 1.5
    found = values(scores, gold, "single")
    assert set(found) == {"accuracy_at_3", "accuracy_at_5"}
    for k in (3, 5):
        assert found[f"accuracy_at_{k}"] == pytest.approx(
            sk.top_k_accuracy_score(gold, scores, k=k, labels=range(60))
        )
    assert values(scores[:, :50], gold % 50, "single") == {}


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 10))
def test_first_labels_breaks_ties_by_label_order(seed, n_labels, k):
    scores = np.random.default_rng(seed).integers(0, 3, (6, n_labels)).astype(np.float32)
    scores[0] = -np.inf
    np.testing.assert_array_equal(first_labels(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])


def test_blocks_of_rows_are_as_good_as_all_at_once():
    rng = np.random.default_rng(2)
    scores, gold = rng.normal(size=(30, 7)), (rng.random((30, 7)) < 0.3).astype(np.uint8)
    whole = ranked(scores, gold, "multi")
    joined = Ranked.joined(
        [ranked(scores[part], gold[part], "multi") for part in (slice(0, 11), slice(11, 30))]
    )
    weights = rng.integers(0, 3, (30, 4)).astype(float)
    for name, value in whole.values(weights).items():
        np.testing.assert_allclose(joined.values(weights)[name], value)
