"""Words, texts without each of them, and their effects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.data.sections import MARK
from sortal.serving.occlusion import log_odds, without_each, words


@given(st.text(), st.integers(1, 80))
def test_words_joined_are_the_text_and_never_more_than_asked_for(text, most):
    found = words(text, most)
    assert "".join(found) == (text if text.strip() else "")
    assert len(found) <= most
    assert all(word.strip() for word in found)


def test_a_word_keeps_the_white_space_after_it():
    assert words("  where is\n\nmy parcel? ") == ["  where ", "is\n\n", "my ", "parcel? "]


def test_scripts_without_spaces_are_taken_by_their_characters():
    assert words("送料 free は") == ["送", "料 ", "free ", "は"]
    assert words("ที่นี่") == ["ที่", "นี่"]  # vowels and tones stay with their consonant


def test_sections_stay_when_their_words_are_left_out():
    text = f"{MARK}a title{MARK}body{MARK}"
    parts = words(text)
    assert parts == [f"{MARK}a ", f"title{MARK}", f"body{MARK}"]
    assert without_each(parts) == [
        f"{MARK}title{MARK}body{MARK}",
        f"{MARK}a {MARK}body{MARK}",
        f"{MARK}a title{MARK}{MARK}",
    ]


def test_long_texts_are_taken_in_equal_groups_of_neighbours():
    text = " ".join(f"w{i}" for i in range(10))
    assert words(text, 4) == ["w0 w1 ", "w2 w3 w4 ", "w5 w6 ", "w7 w8 w9"]
    sizes = {len(group.split()) for group in words("word " * 1000)}
    assert sizes == {15, 16}


def test_each_text_lacks_one_word():
    assert without_each(["a ", "b ", "c"]) == ["b c", "a c", "a b"]
    assert without_each(["alone"]) == [""]
    assert without_each([]) == []


def test_log_odds_of_both_tasks():
    single = np.array([[0.7, 0.2, 0.1]])
    assert log_odds(single, [0, 2], single=True)[0] == pytest.approx([np.log(0.7 / 0.3), np.log(0.1 / 0.9)])
    several = np.array([[0.9, 0.9]])
    assert log_odds(several, [1], single=False)[0] == pytest.approx([np.log(9)])


def test_log_odds_tell_near_certainties_apart_and_stay_finite():
    sure = np.array([[1 - 1e-10, 1e-10], [1 - 1e-11, 1e-11], [1.0, 0.0]])
    odds = log_odds(sure, [0], single=True)[:, 0]
    assert odds[1] - odds[0] == pytest.approx(np.log(10), abs=1e-3)
    assert np.isfinite(log_odds(sure, [0, 1], single=True)).all()
