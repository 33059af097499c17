"""A loaded model folder: what it answers, and how large it takes texts to be."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.serving.models import Answer, ServedModel
from sortal.serving.shapes import classified
from tiny_runs import fit, rows, write_csv


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request, tiny_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    data = write_csv(folder / "data.csv", rows(40))
    fit(data, tiny_models[request.param], folder / "run", max_length=64)
    return ServedModel.load("m", folder / "run" / "model")


def test_on_a_cpu_a_batch_is_no_larger_than_what_is_faster(model):
    assert model.batch_tokens == min(model.classifier.scorer.max_tokens, 1024)


def test_its_estimate_comes_to_its_own_tokens(model):
    assert model.size("") == model.answer([""])[0].tokens
    assert model.size("word " * 1000) == 64
    texts = [f"some words {i}" for i in range(20)]
    for _ in range(30):
        answers = model.answer(texts)
    assert [model.size(text) for text in texts] == pytest.approx([a.tokens for a in answers], abs=1)


def test_a_lone_surrogate_is_one_replacement_character(model):
    broken, mended = model.answer(["a \ud83d b", "a \ufffd b"])
    assert broken.probabilities == pytest.approx(mended.probabilities, abs=1e-6)
    assert broken.tokens == mended.tokens


def test_the_label_is_the_most_probable_of_those_given_and_not_of_all():
    answer = Answer(np.array([0.6, 0.7, 0.9]), ("a", "b"), None)  # thresholds left the last one out
    row = classified(answer, 3, {"a": 0, "b": 1, "c": 2})
    assert (row["index"], row["label"], row["labels"]) == (3, "b", ["a", "b"])
    answer = Answer(np.array([0.7, 0.6, 0.9]), ("a", "b"), None)
    assert classified(answer, 0, {"a": 0, "b": 1, "c": 2})["label"] == "a"
