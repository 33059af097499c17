from __future__ import annotations

import random

import numpy as np

from sortal.checks.minhash import SKETCH, Signatures, _limited
from sortal.checks.shingles import similarity


def texts(n: int, seed: int, words: int = 9) -> list[str]:
    draw = random.Random(seed)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(draw.choices(alphabet, k=draw.randint(3, 9))) for _ in range(800)]
    return [" ".join(draw.choices(vocabulary, k=words)) for _ in range(n)]


def with_a_typo(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text))
    return text[:place] + "#" + text[place + 1 :]


def pairs_of(all_texts: list[str], seed: int = 0) -> set[tuple[int, int]]:
    signatures = Signatures.of([all_texts], len(all_texts), seed)
    return {(left, right) for left, right in signatures.candidates(0.5).tolist()}


def test_nearly_all_similar_pairs_are_candidates_and_few_others():
    draw = random.Random(1)
    originals = texts(2_000, 0)
    copies = [with_a_typo(text, draw) for text in originals]
    n = len(originals)
    found = pairs_of(originals + copies)
    alike = similarity(originals + copies, np.arange(n), np.arange(n, 2 * n)) >= 0.7
    hits = sum((i, n + i) in found for i in np.flatnonzero(alike).tolist())
    assert alike.sum() > 1_900
    assert hits >= 0.99 * alike.sum()
    assert len(found) < 1.1 * 2 * n


def test_the_sketch_estimates_the_similarity():
    draw = random.Random(2)
    originals = texts(500, 3)
    changed = [with_a_typo(with_a_typo(text, draw), draw) for text in originals]
    signatures = Signatures.of([originals + changed], 1_000, 0)
    left, right = np.arange(500), np.arange(500, 1_000)
    error = signatures.likeness(left, right) - similarity(originals + changed, left, right)
    assert abs(error.mean()) < 0.02
    assert error.std() < 1.5 * np.sqrt(0.25 / SKETCH)


def test_signatures_do_not_depend_on_how_texts_are_batched():
    some = texts(300, 4)
    whole = Signatures.of([some], 300, 0)
    pieces = Signatures.of([some[:7], some[7:200], some[200:]], 300, 0)
    assert (whole.bands == pieces.bands).all()
    assert (whole.sketch == pieces.sketch).all()
    other = Signatures.of([some], 300, 1)
    assert (whole.bands != other.bands).mean() > 0.99


def test_thousands_of_texts_that_are_all_alike_stay_cheap_and_are_all_found():
    some = [
        f"Your order number {number:05} has been shipped and will arrive tomorrow" for number in range(3_000)
    ]
    found = pairs_of(some)
    assert len(found) < 64 * len(some)
    assert {place for pair in found for place in pair} == set(range(len(some)))


def test_no_texts_and_one_text_have_no_pairs():
    assert pairs_of([]) == set()
    assert pairs_of(["alone"]) == set()


def test_long_texts_are_taken_in_pieces_that_keep_every_text_once():
    some = ["x" * 90_000, "y", "", "z" * 20_000, *["w" * 20_000] * 20]
    pieces = list(_limited(some))
    assert [text for piece in pieces for text in piece] == some
    assert len(pieces) > 1
