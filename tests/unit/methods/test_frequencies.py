from __future__ import annotations

import numpy as np
import pytest

from sortal.methods.frequencies import label_counts, log_odds, log_priors


def test_counts_are_the_same_for_both_forms_of_gold():
    single = np.array([2, 0, 2])
    assert label_counts(single, 4).tolist() == [1, 0, 2, 0]
    assert label_counts(np.eye(4, dtype=np.uint8)[single], 4).tolist() == [1, 0, 2, 0]


def test_many_rows_do_not_overflow_small_integers():
    assert label_counts(np.ones((300, 1), np.uint8), 1).tolist() == [300]


def test_priors_are_the_frequencies_and_no_label_is_impossible():
    assert np.exp(log_priors(np.array([3, 1, 0]), 4)) == pytest.approx([0.75, 0.25, 0.125])


def test_odds_are_those_of_the_frequencies_and_finite_at_both_ends():
    never, some, always = log_odds(np.array([0, 25, 100]), 100)
    assert some == pytest.approx(np.log(1 / 3))
    assert never == pytest.approx(-always) == pytest.approx(np.log(0.5 / 99.5))
    assert log_odds(np.array([0, 1]), 1).tolist() == [0.0, 0.0]
