from __future__ import annotations

import json

import numpy as np
import pytest

from sortal.data.labels import LabelSpace
from sortal.errors import ModelError
from sortal.methods.linear import fit_linear
from sortal.methods.tfidf import GRID, GRID_WORK, TfidfMethod, TfidfScorer, affordable
from sortal.methods.tfidf_features import TfidfFeatures

SPACE = LabelSpace(("b", "a", "c"), "single")
TEXTS = ["late parcel", "money back", "hello 好", "late late", "back", "好"]


@pytest.fixture(scope="module")
def scorer():
    features, x = TfidfFeatures.fit(TEXTS)
    return TfidfScorer(SPACE, features, fit_linear(x, np.array([0, 1, 2] * 2), 3, "svm", 1.0, seed=0))


@pytest.fixture
def saved(scorer, tmp_path):
    return tmp_path, scorer.save(tmp_path)


def load(saved, space=SPACE):
    return TfidfMethod().load(saved[0], json.loads(json.dumps(saved[1])), space)


def test_a_loaded_scorer_gives_the_same_bits(scorer, saved):
    texts = [*TEXTS, "", "unknown words 好 late"]
    assert (load(saved).score(texts) == scorer.score(texts)).all()
    assert sorted(p.name for p in saved[0].iterdir()) == ["tfidf.json", "tfidf.safetensors"]


def test_texts_may_come_from_a_generator_and_in_any_number(scorer, monkeypatch):
    from sortal.methods import tfidf

    whole = scorer.score(TEXTS)
    monkeypatch.setattr(tfidf, "_SCORE_CHUNK", 4)
    assert (scorer.score(text for text in TEXTS) == whole).all()
    assert scorer.score([]).shape == (0, 3)


def test_the_whole_grid_is_tried_where_it_is_affordable():
    assert affordable(1_000) == GRID
    assert {c.model for c in GRID} == {"svm", "logistic"}
    assert len(set(GRID)) == len(GRID)


def test_large_data_tries_the_first_candidates_and_at_least_one():
    assert affordable(int(GRID_WORK / 2)) == GRID[:2]
    assert affordable(int(GRID_WORK * 100)) == GRID[:1]


@pytest.mark.parametrize("name", ["tfidf.json", "tfidf.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved[0] / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} is missing"):
        load(saved)


@pytest.mark.parametrize("name", ["tfidf.json", "tfidf.safetensors"])
def test_a_truncated_file_is_refused_in_one_sentence(saved, name):
    path = saved[0] / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelError, match=rf"{name} is (damaged|not the file)") as error:
        load(saved)
    assert "\n" not in error.value.what


def test_n_grams_in_another_order_are_refused(saved):
    path = saved[0] / "tfidf.json"
    values = json.loads(path.read_text())
    values["words"].reverse()
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="not the file this model was saved with"):
        load(saved)


def test_labels_in_another_order_are_refused(saved):
    with pytest.raises(ModelError, match="disagree about the labels"):
        load(saved, LabelSpace(("a", "b", "c"), "single"))


def test_weights_of_another_model_are_refused(saved, tmp_path_factory):
    other, x = TfidfFeatures.fit(["other words"] * 2)
    folder = tmp_path_factory.mktemp("other")
    TfidfScorer(SPACE, other, fit_linear(x, np.array([0, 1]), 3, "svm", 1.0, seed=0)).save(folder)
    (saved[0] / "tfidf.safetensors").write_bytes((folder / "tfidf.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"tfidf\.safetensors is damaged"):
        load(saved)
