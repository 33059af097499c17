"""Figures of main and further labels, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError, DataError
from sortal.evaluation.further import FURTHER_METRICS, evaluate_further, row_figures

NAMES = ("A", "B", "C", "D", "E")
SPACE = LabelSpace(NAMES, "single")


def ranked(*guesses: str) -> list[float]:
    """Scores under which the labels are guessed in this order."""
    return [-float(guesses.index(name)) for name in NAMES]


# guesses, main, further → main first, main in three, first in all, preferential
BY_HAND = [
    (ranked(*"ABCDE"), "A", (), (1, 1, 1, 1)),
    (ranked(*"BACDE"), "A", (), (0, 1, 0, 0)),  # one label, one guess, and it is wrong
    (ranked(*"BACDE"), "A", ("B",), (0, 1, 1, 1)),  # two guesses: B (1) and A (2) of 3
    (ranked(*"ACBDE"), "A", ("B",), (1, 1, 1, 2 / 3)),  # A (2) of 3; B comes third
    (ranked(*"BCADE"), "A", ("B",), (0, 1, 1, 1 / 3)),  # B (1) of 3; the main label comes third
    (ranked(*"BCDAE"), "A", ("B", "C"), (0, 0, 1, 2 / 4)),  # B, C (1 each) of 4
    (ranked(*"DABCE"), "A", ("B", "C"), (0, 1, 0, 3 / 4)),  # D, A, B: 2 + 1 of 4
    (ranked(*"EDCBA"), "A", ("B",), (0, 0, 0, 0)),
    (ranked(*"ABCDE"), "A", ("A", "B", "B"), (1, 1, 1, 1)),  # the main label and repeats count once
    (ranked(*"ABCDE"), "A", ("Z",), (1, 1, 1, 2 / 3)),  # unknown to the model: never found
    (ranked(*"ABCDE"), "A", ("Y", "Z"), (1, 1, 1, 2 / 4)),
]


@pytest.mark.parametrize(("scores", "main", "further", "figures"), BY_HAND)
def test_one_row_by_hand(scores, main, further, figures):
    found = row_figures(np.array([scores]), np.array([NAMES.index(main)]), [further], NAMES)
    np.testing.assert_allclose(found, [figures])


def test_figures_are_means_over_rows_with_intervals():
    scores = np.array([case[0] for case in BY_HAND])
    gold = np.array([NAMES.index(case[1]) for case in BY_HAND])
    found = evaluate_further(scores, gold, [case[2] for case in BY_HAND], SPACE, seed=1)
    n = len(BY_HAND)
    assert found["main_first"] == pytest.approx(5 / n)
    assert found["main_in_three"] == pytest.approx(9 / n)
    assert found["first_in_all"] == pytest.approx(8 / n)
    assert found["preferential"] == pytest.approx(
        (1 + 0 + 1 + 2 / 3 + 1 / 3 + 1 / 2 + 3 / 4 + 0 + 1 + 2 / 3 + 1 / 2) / n
    )
    assert found["rows_with_further_labels"] == 9
    for name in FURTHER_METRICS:
        low, high = found["intervals"][name]
        assert 0 <= low < found[name] < high <= 1
    assert found == evaluate_further(scores, gold, [case[2] for case in BY_HAND], SPACE, seed=1)


def test_missing_the_main_label_costs_more_than_missing_a_further_one():
    main_missed = row_figures(np.array([ranked(*"BCADE")]), np.array([0]), [("B",)], NAMES)[0, 3]
    further_missed = row_figures(np.array([ranked(*"ACBDE")]), np.array([0]), [("B",)], NAMES)[0, 3]
    assert main_missed < further_missed


def test_a_label_without_a_score_is_no_guess():
    scores = np.array([[0.0, -np.inf, -np.inf, -np.inf, -np.inf]])
    np.testing.assert_allclose(row_figures(scores, np.array([1]), [("C",)], NAMES), [[0, 0, 0, 0]])
    np.testing.assert_allclose(row_figures(scores, np.array([1]), [("A",)], NAMES), [[0, 0, 1, 1 / 3]])


def test_rows_beyond_one_block_are_counted():
    n = 5000
    scores = np.tile(ranked(*"ABCDE"), (n, 1))
    found = evaluate_further(scores, np.arange(n) % 5, [()] * n, SPACE, n_resamples=0)
    assert (found["main_first"], found["main_in_three"]) == (0.2, 0.6)
    assert found["intervals"] == {}


@given(st.lists(st.tuples(st.permutations(NAMES), st.sets(st.sampled_from(NAMES))), min_size=1, max_size=8))
def test_without_further_labels_the_first_guess_is_all_there_is(rows):
    scores = np.array([ranked(*guesses) for guesses, _ in rows])
    gold = np.zeros(len(rows), np.int64)
    alone = row_figures(scores, gold, [()] * len(rows), NAMES)
    np.testing.assert_array_equal(alone[:, 0], alone[:, 2])
    np.testing.assert_array_equal(alone[:, 0], alone[:, 3])
    more = row_figures(scores, gold, [tuple(names) for _, names in rows], NAMES)
    np.testing.assert_array_equal(more[:, :2], alone[:, :2])
    assert (more[:, 2] >= alone[:, 2]).all()
    assert ((more >= 0) & (more <= 1)).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="single-label"):
        evaluate_further(np.zeros((1, 5)), np.zeros((1, 5)), [()], LabelSpace(NAMES, "multi"))
    with pytest.raises(DataError, match="2 rows have further labels and 1 have scores"):
        evaluate_further(np.zeros((1, 5)), np.array([0]), [(), ()], SPACE)
