"""A saved folder in plain transformers and peft, by the lines the documentation gives."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from head_runs import TOPICS
from tiny_runs import (
    FAMILIES,
    HARD_TEXTS,
    fit,
    plain_classifier,
    plain_logits,
    rows,
    write_csv,
)


@pytest.fixture(scope="module")
def single(tmp_path_factory, tiny_models):
    """One run per family; three labels, so that a wrong order shows."""
    folder = tmp_path_factory.mktemp("single")
    data = write_csv(folder / "data.csv", rows(45, ("odd", "good", "bad")))
    return {
        family: SimpleNamespace(
            result=fit(data, tiny_models[family], folder / family), base=tiny_models[family]
        )
        for family in FAMILIES
    }


@pytest.fixture(scope="module")
def multi(tmp_path_factory, tiny):
    """A run without temperature and thresholds, so that transformers' own sigmoid at 0.5 decides as we do."""
    folder = tmp_path_factory.mktemp("multi")
    lines = [(f"{text} {i}", labels) for i in range(12) for text, labels in TOPICS]
    result = fit(
        write_csv(folder / "data.csv", lines),
        tiny,
        folder / "run",
        label_delimiter="|",
        temperature_scaling=False,
        thresholds="none",
        epochs=4,
    )
    return SimpleNamespace(result=result, base=tiny)


@pytest.fixture
def said(caplog):
    """What the libraries log; transformers keeps it from other handlers unless told otherwise."""
    logger = logging.getLogger("transformers")
    before, logger.propagate = logger.propagate, True
    yield caplog
    logger.propagate = before


def _merged(run, folder):
    tokenizer, model = plain_classifier(run.result.folder / "model", run.base)
    model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _pipeline(folder, said):
    """The pipeline of a merged folder, which must load without a word about missing or new weights."""
    from transformers import pipeline

    said.clear()
    classify = pipeline("text-classification", model=str(folder))
    assert "newly initialized" not in said.text
    assert "MISSING" not in said.text
    return classify


@pytest.mark.parametrize("family", FAMILIES)
def test_the_documented_lines_give_our_logits(single, family):
    run = single[family]
    tokenizer, model = plain_classifier(run.result.folder / "model", run.base)
    ours = run.result.classifier.scorer.score(HARD_TEXTS)
    assert np.abs(ours).max() > 0.02, "the run has moved the scores away from zero"
    np.testing.assert_allclose(plain_logits(tokenizer, model, HARD_TEXTS), ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_merged_folder_gives_our_answers_in_a_pipeline(single, family, tmp_path, said):
    run = single[family]
    classify = _pipeline(_merged(run, tmp_path), said)
    texts = [*HARD_TEXTS, *(text for text, _ in rows(60))]
    found = classify(texts, top_k=None, batch_size=7, truncation=True)
    ours = run.result.classifier
    expected = ours.predict(texts)
    assert [max(row, key=lambda x: x["score"])["label"] for row in found] == expected
    assert [row[0]["label"] for row in classify(texts, top_k=1, truncation=True)] == expected
    softmax = np.exp(ours.scorer.score(texts)) / np.exp(ours.scorer.score(texts)).sum(-1, keepdims=True)
    by_name = [{x["label"]: x["score"] for x in row} for row in found]
    theirs = np.array([[row[name] for name in ours.classes_] for row in by_name])
    np.testing.assert_allclose(theirs, softmax, atol=1e-5)


def test_the_merged_multi_label_folder_gives_our_sigmoids_in_a_pipeline(multi, tmp_path, said):
    """S8: the saved problem type makes the pipeline use sigmoids."""
    classify = _pipeline(_merged(multi, tmp_path), said)
    ours = multi.result.classifier
    texts = [text for text, _ in TOPICS] + list(HARD_TEXTS)
    probabilities = ours.predict_proba(texts)
    assert ours.decision.temperature == 1.0
    found = [{x["label"]: x["score"] for x in row} for row in classify(texts, top_k=None, truncation=True)]
    theirs = np.array([[row[name] for name in ours.classes_] for row in found])
    np.testing.assert_allclose(theirs, probabilities, atol=1e-5)
    picked = [tuple(n for n in ours.classes_ if row[n] >= 0.5) for row in found]
    assert picked == ours.predict(texts)
    assert not np.allclose(theirs.sum(-1), 1.0), "sigmoids, not a softmax"


def test_two_classes_are_a_softmax_in_a_pipeline(tiny, tmp_path, said):
    """S8."""
    data = write_csv(tmp_path / "data.csv", rows(40))
    result = fit(data, tiny, tmp_path / "run", temperature_scaling=False)
    run = SimpleNamespace(result=result, base=tiny)
    found = _pipeline(_merged(run, tmp_path / "merged"), said)(list(HARD_TEXTS), top_k=None, truncation=True)
    ours = result.classifier
    theirs = [[{x["label"]: x["score"] for x in row}[name] for name in ours.classes_] for row in found]
    np.testing.assert_allclose(theirs, ours.predict_proba(list(HARD_TEXTS)), atol=1e-5)
    assert [row[0]["label"] for row in found] == ours.predict(list(HARD_TEXTS))


def test_one_multi_label_label_is_a_sigmoid_in_a_pipeline(tiny, tmp_path, said):
    """S8."""
    lines = [("urgent now " * (i % 2) + f"text {i}", i % 2) for i in range(40)]
    data = write_csv(tmp_path / "data.csv", lines, ("text", "urgent"))
    settings = {"temperature_scaling": False, "thresholds": "none", "epochs": 3}
    result = fit(data, tiny, tmp_path / "run", label_columns=["urgent"], **settings)
    run = SimpleNamespace(result=result, base=tiny)
    classify = _pipeline(_merged(run, tmp_path / "merged"), said)
    texts = ["urgent now text 1", "text 2"]
    found = classify(texts, top_k=None)
    assert [[x["label"] for x in row] for row in found] == [["urgent"]] * 2
    ours = result.classifier.predict_proba(texts)
    np.testing.assert_allclose([row[0]["score"] for row in found], ours[:, 0], atol=1e-5)
    assert not np.allclose(ours, 1.0)


def test_a_head_that_was_not_saved_would_be_noticed_by_the_tests_above(tiny, said):
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(tiny)
    assert "newly initialized" in said.text
    assert "MISSING" in said.text


def test_the_config_says_everything_transformers_needs(single, multi):
    """S1, S7, S8: padding, label order and problem type."""
    for run, problem in (
        (single["gpt2"], "single_label_classification"),
        (multi, "multi_label_classification"),
    ):
        folder = run.result.folder / "model"
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = run.result.classifier.classes_
        assert config["problem_type"] == problem
        assert config["id2label"] == {str(i): name for i, name in enumerate(names)}
        assert config["label2id"] == {name: i for i, name in enumerate(names)}
        assert config["pad_token_id"] is not None
        assert "quantization_config" not in config


def test_the_adapter_file_is_pefts_own(single):
    """adapter_config.json names the base's task and every target; nothing but adapters and score is in the file."""
    from safetensors import safe_open

    folder = single["llama"].result.folder / "model"
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["task_type"]) == ("LORA", "SEQ_CLS")
    assert "score" in config["modules_to_save"]
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        keys = list(file.keys())
    assert len(keys) == 2 * 2 * 7 + 1
    assert all("lora_" in key or key.endswith("score.weight") for key in keys)
