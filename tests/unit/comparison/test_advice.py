from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from sortal.comparison.advice import advise
from sortal.evaluation.comparison import PairComparison


def _pairs(values, same=(), n=500):
    """All pairs, significant unless named in ``same``."""
    return [
        PairComparison(
            a, b, "accuracy", n, 1, 1, values[a], values[b], values[a] - values[b],
            p=0.5 if {a, b} in [set(s) for s in same] else 1e-4,
            p_holm=0.9 if {a, b} in [set(s) for s in same] else 3e-4,
        )
        for a, b in combinations(values, 2)
    ]  # fmt: skip


VALUES = {"majority": 0.1, "tfidf": 0.89, "head": 0.92}
SECONDS = {"majority": 0.1, "tfidf": 5.0, "head": 1200.0}


def test_a_method_better_than_all_others_is_named():
    quality, cost = advise(VALUES, SECONDS, _pairs(VALUES), 500)
    assert (
        quality
        == "head has the highest accuracy, 0.920, and is better than majority and tfidf beyond chance."
    )
    assert cost == "Nothing that is cheaper to train comes near it: head takes 20 min."


def test_what_is_not_told_apart_is_no_winner_and_the_cheaper_one_is_named():
    quality, cost = advise(VALUES, SECONDS, _pairs(VALUES, [("tfidf", "head")]), 500)
    assert "better than majority beyond chance, but not told apart from tfidf by these 500 rows" in quality
    assert cost.startswith("The cheapest to train that is not told apart from it is tfidf: 0.890 after 5.0 s")


@pytest.mark.parametrize(
    ("names", "interval"), [(("tfidf", "head"), [-0.07, 0.01]), (("head", "tfidf"), [-0.01, 0.07])]
)
def test_not_told_apart_is_not_equal_and_the_cheapest_says_how_far_it_may_be(names, interval):
    values = {name: VALUES[name] for name in names}
    (pair,) = _pairs(values, [names])
    cost = advise(values, SECONDS, [replace(pair, interval=interval)], 500)[1]
    assert cost.endswith("20 min. It may lie up to 7.0 points below (95 % interval of the difference).")
    assert "may lie" not in advise(values, SECONDS, [pair], 500)[1]


def test_without_any_difference_no_method_is_the_best():
    same = list(combinations(VALUES, 2))
    quality, cost = advise(VALUES, SECONDS, _pairs(VALUES, same), 500)
    assert quality.startswith("No method is the best beyond chance: head has the highest accuracy, 0.920")
    assert "majority" in cost


def test_costs_that_were_not_recorded_are_not_guessed():
    assert advise(VALUES, {}, _pairs(VALUES), 500)[1] == "What training costs was not recorded."
    mixed = advise(VALUES, SECONDS, _pairs(VALUES), 500, devices=2)[1]
    assert mixed == "The runs were made on different devices: what they cost is not to be compared."
    _, cost = advise(VALUES, {"tfidf": 5.0}, _pairs(VALUES, [("tfidf", "head")]), 500)
    assert "head takes" not in cost


@pytest.mark.parametrize(
    ("values", "n", "words"),
    [
        ({}, 500, "No run has finished"),
        ({"head": 0.9}, 500, "Only head has finished"),
        (VALUES, 29, "29 test rows are too few"),
    ],
)
def test_nothing_is_advised_without_evidence(values, n, words):
    (only,) = advise(values, SECONDS, _pairs(values, n=n), n)
    assert only.startswith(words)
