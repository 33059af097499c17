from __future__ import annotations

import math

import numpy as np
import pytest

from sortal.methods import tfidf_features
from sortal.methods.tfidf_features import Block, TfidfFeatures
from sortal.training.progress import NoProgress

TEXTS = ["the cat sat", "the cat sat on the cat", "", "猫が座った", "แมวนั่ง", "Ünïcode Ünïcode"]


def test_words_pairs_of_words_and_characters_inside_words():
    features, _ = TfidfFeatures.fit(TEXTS)
    named = features.named("the cat sat")
    assert set(named["words"]) == {"the", "cat", "sat", "the cat", "cat sat"}
    assert {" t", "the", " cat ", "at "} <= set(named["characters"])
    assert not any(" " in name.strip() for name in named["characters"]), "no run crosses a word's end"
    assert max(map(len, features.characters.terms)) == 5


def test_values_are_sublinear_tf_times_idf_scaled_to_length_one():
    block, x = Block.fit("words", ["a a a b", "b", "c"], NoProgress())
    row = dict(zip(block.terms, x.toarray()[0], strict=True))
    idf = {
        "a": math.log(4 / 2) + 1,
        "a a": math.log(4 / 2) + 1,
        "a b": math.log(4 / 2) + 1,
        "b": math.log(4 / 3) + 1,
    }
    raw = {
        "a": (1 + math.log(3)) * idf["a"],
        "a a": (1 + math.log(2)) * idf["a a"],
        "a b": idf["a b"],
        "b": idf["b"],
    }
    length = math.sqrt(sum(value**2 for value in raw.values()))
    for term, value in raw.items():
        assert row[term] == pytest.approx(value / length, rel=1e-5)
    assert row["c"] == 0


def test_the_training_values_are_those_of_serving():
    features, x = TfidfFeatures.fit(TEXTS)
    again = features.transform(TEXTS)
    assert x.dtype == again.dtype == np.float32
    assert (x != again).nnz == 0
    assert x.shape == (6, len(features))


@pytest.mark.parametrize("text", TEXTS[3:])
def test_every_script_has_words_and_characters(text):
    named = TfidfFeatures.fit(TEXTS)[0].named(text)
    assert named["words"]
    assert named["characters"]


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_has_an_empty_row(text):
    assert TfidfFeatures.fit(TEXTS)[0].transform([text]).nnz == 0


def test_texts_without_a_single_n_gram_give_no_features():
    features, x = TfidfFeatures.fit(["", " "])
    assert len(features) == 0
    assert x.shape == (2, 0)
    assert features.transform(["words"]).shape == (1, 0)


def test_punctuation_alone_has_characters_but_no_words():
    features, _ = TfidfFeatures.fit(["?!", "!!!"])
    assert features.words.terms == ()
    assert features.characters.terms
    assert features.transform(["?!"]).nnz > 0


def test_n_grams_of_a_single_text_are_left_out_of_large_data(monkeypatch):
    monkeypatch.setattr(tfidf_features, "RARE_FROM_ROWS", 6)
    features, _ = TfidfFeatures.fit(TEXTS)
    assert "cat" in features.words.terms
    assert "on" not in features.words.terms


def test_the_most_frequent_n_grams_stay_within_the_limit(monkeypatch):
    monkeypatch.setattr(tfidf_features, "MAX_TERMS", 2)
    assert TfidfFeatures.fit(["x c x b", "x, c, c", "a"])[0].words.terms == ("c", "x")


def test_case_does_not_matter_and_the_view_hears_of_all_texts():
    told = []

    class View(NoProgress):
        def advance(self, units, tokens, note=""):
            told.append(units)

    features, _ = TfidfFeatures.fit(TEXTS * 100, View())
    assert sum(told) == 2 * 600, "each text once for words and once for characters"
    assert len(told) < 10, "in groups: telling takes longer than counting a text"
    assert features.named("THE CAT") == features.named("the cat")
