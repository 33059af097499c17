from __future__ import annotations

import numpy as np
import pytest

from sortal.checks.shingles import READ, compared, shingles, similarity


def alike(left: str, right: str) -> float:
    return float(similarity([left, right], np.array([0]), np.array([1]))[0])


def runs(text: str) -> set[str]:
    padded = compared(text) + "   "
    return {padded[i : i + 4] for i in range(len(padded) - 3)}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("where is my card", "where is my cart"),
        ("abcde", "abcdf"),
        ("a", "b"),
        ("ab", "ab ab"),
        ("شكرا جزيلا", "شكرا جزيل"),
        ("猫が好き", "犬が好き"),
        ("aaaaaaaa", "aaaa"),
    ],
)
def test_similarity_is_the_jaccard_of_runs_of_four_characters(left, right):
    expected = len(runs(left) & runs(right)) / len(runs(left) | runs(right))
    assert alike(left, right) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "right", ["WHERE is  my card", "where is my card?!", "“Where, is my card”", "where\nis\tmy card"]
)
def test_case_punctuation_and_white_space_do_not_count(right):
    assert alike("Where is my card", right) == 1


@pytest.mark.parametrize(("left", "right"), [("great 😀", "great 😡"), ("!!!", "???"), ("5 €", "5 £")])
def test_signs_that_carry_meaning_do(left, right):
    assert alike(left, right) < 1


def test_a_text_does_not_depend_on_its_neighbours():
    texts = ["", "one text", "x", "another one", "", "the last"]
    together, counts = shingles(texts)
    ends = np.cumsum(counts)
    for text, start, end in zip(texts, ends - counts, ends, strict=True):
        assert together[start:end].tolist() == shingles([text])[0].tolist()
        assert end > start


def test_no_texts_have_no_runs():
    found, counts = shingles([])
    assert (len(found), len(counts)) == (0, 0)


def test_only_the_beginning_of_a_very_long_text_is_read():
    assert len(shingles(["x" * READ * 3])[0]) == READ
