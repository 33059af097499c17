"""Tokens of a text before they are counted."""

from __future__ import annotations

import pytest

from sortal.serving.sizes import SizeEstimate


def test_every_text_has_at_least_one_token():
    assert SizeEstimate(0)("") == 1
    assert SizeEstimate(12)("") == 12


def test_a_text_has_its_fixed_tokens_and_a_share_of_its_bytes_up_to_what_is_kept():
    estimate = SizeEstimate(10, longest=30)
    assert estimate("a" * 40) == 20
    assert estimate("a" * 41) == 21
    assert estimate("a" * 4000) == 30
    assert SizeEstimate(10)("a" * 4000) == 1010
    assert estimate("\ud800" * 4) == 13, "three bytes each"


def test_it_learns_the_rate_of_a_language():
    estimate = SizeEstimate(5, longest=500)
    for _ in range(40):
        estimate.learn(["x" * 30, "x" * 60], [5 + 30, 5 + 60])  # a token a byte
    assert estimate("x" * 100) == pytest.approx(105, abs=1)
    assert estimate("") == 5


def test_texts_that_were_cut_and_empty_ones_teach_nothing():
    estimate = SizeEstimate(5, longest=50)
    estimate.learn(["x" * 10_000, ""], [50, 5])
    estimate.learn([], [])
    assert estimate("x" * 40) == 15
