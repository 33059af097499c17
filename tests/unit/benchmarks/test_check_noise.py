from __future__ import annotations

import random

import numpy as np
import pytest
from benchmarks.check_noise import flagged, gains, hits, suspected
from benchmarks.injection import mistaken
from scipy.sparse import csr_matrix


def test_precision_and_recall():
    assert hits(np.array([True, True, False, False]), np.array([0, 2])) == (0.5, 0.5)


def test_rows_are_flagged_by_the_odds_of_the_likeliest_other_label():
    p = np.array([[0.1, 0.5, 0.4], [0.15, 0.5, 0.35], [0.5, 0.4, 0.1]])
    codes = np.array([0, 0, 0])
    assert flagged(p, codes).tolist() == [0]
    assert np.argsort(-suspected(p, codes)).tolist() == [0, 1, 2]


def test_a_mistaken_label_is_the_one_that_is_most_like_it():
    x = csr_matrix(np.array([[4, 1, 0], [4, 1, 0], [3, 2, 0], [3, 2, 0], [0, 0, 5], [0, 0, 5]], float))
    labels = ["a", "a", "b", "b", "c", "c"]
    changed = mistaken(labels, 1.0, random.Random(0), x)
    assert changed[:4] == ["b", "b", "a", "a"]
    assert mistaken(labels, 0.5, random.Random(0), x) != labels
    assert (
        sum(
            one != other
            for one, other in zip(mistaken(labels, 0.5, random.Random(0), x), labels, strict=True)
        )
        == 3
    )


def test_the_gain_over_a_worse_ranking_is_above_zero():
    bad = np.arange(200) < 20
    spans = gains(bad, {"sortal": -np.arange(200.0), "loss": np.arange(200.0), "states": -np.arange(200.0)})
    assert spans["loss"][0] > 0.5
    assert spans["states"] == [pytest.approx(0), pytest.approx(0)]
