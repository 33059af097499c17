from __future__ import annotations

import itertools
import random

import numpy as np

from checked import context
from sortal.checks.near import NEAR
from sortal.checks.shingles import similarity


def brute_force(texts: list[str]) -> set[frozenset[str]]:
    places = np.array(list(itertools.combinations(range(len(texts)), 2)))
    likeness = similarity(texts, places[:, 0], places[:, 1])
    return {frozenset({texts[i], texts[j]}) for i, j in places[likeness >= NEAR].tolist()}


def test_all_pairs_of_all_parts_are_found_and_no_others():
    draw = random.Random(0)
    words = [
        "please",
        "tell",
        "me",
        "how",
        "long",
        "a",
        "transfer",
        "takes",
        "and",
        "what",
        "it",
        "costs",
        "in",
        "euro",
        "or",
        "dollar",
        "today",
    ]
    texts = sorted({" ".join(draw.choices(words, k=7)) for _ in range(300)})
    draw.shuffle(texts)
    near = [text + draw.choice([" now", "s", " or"]) for text in texts[:60]]
    train, test = [(text, "a") for text in texts], [(text, "a") for text in dict.fromkeys(near)]
    given = context(train, test=test)
    place = {}
    for part, rows in (("train", train), ("test", test)):
        for row, (text, _) in enumerate(rows):
            place[int(given.text_ids.by_part[part][row])] = text
    pairs = {frozenset(place[int(number)] for number in pair) for pair in given.near.texts}
    expected = brute_force(list(dict.fromkeys([*texts, *near])))
    assert pairs <= expected
    assert len(pairs) >= 0.99 * len(expected)
    assert len(expected) > 50
    assert (given.near.similarity >= NEAR).all()


def test_equal_texts_and_empty_ones_make_no_pair():
    given = context(
        [("", "a"), (" ", "b"), ("the same text", "a"), ("The  same text", "a"), ("something else", "a")]
    )
    assert len(given.near.texts) == 0


def test_pairs_are_compared_in_bounded_pieces(monkeypatch):
    from sortal.checks import near

    texts = [(f"a long text about number {number} " * 20, "a") for number in range(40)]
    whole = context(texts).near
    monkeypatch.setattr(near, "_RUNS_AT_ONCE", 1)
    pieces = context(texts).near
    assert len(whole.texts) > 40
    assert pieces.texts.tolist() == whole.texts.tolist()
    assert pieces.similarity.tolist() == whole.similarity.tolist()
