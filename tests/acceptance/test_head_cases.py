"""Cases of the embedding head, end to end on tiny random models: S1, S2, S4, S7, S8, S10, S11, S14, S15, F9, F10."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import sortal
from head_runs import LABELS, head_runs, read_json
from sortal.errors import DataError
from tiny_runs import (
    FAMILIES,
    HARD_TEXTS,
    edit_json,
    fit,
    plain_classifier,
    plain_logits,
    rows,
    write_csv,
)

TOPICS = [
    ("parcel late", "delivery"),
    ("money back", "refund"),
    ("late parcel money", "delivery|refund"),
    ("hello", ""),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", rows(45, LABELS))


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    lines = [(f"{text} {i}", labels) for i in range(12) for text, labels in TOPICS]
    return write_csv(tmp_path_factory.mktemp("data") / "topics.csv", lines)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_models, data):
    return head_runs(tmp_path_factory, tiny_models, data)


# S1


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_s1_a_model_without_pad_token_trains_predicts_and_saves_one(
    family, tiny_models, tmp_path, monkeypatch
):
    from transformers import AutoConfig, AutoTokenizer

    from sortal.methods import head_model

    base = tiny_models[family]
    assert AutoConfig.from_pretrained(base).pad_token_id is None
    assert AutoTokenizer.from_pretrained(base).pad_token is None
    before_any_forward = []
    real = head_model.enable_packing
    monkeypatch.setattr(
        head_model, "enable_packing", lambda m: before_any_forward.append(m.config.pad_token_id) or real(m)
    )
    data = write_csv(tmp_path / "data.csv", rows(40))
    classifier = sortal.train(data, model=str(base), out=str(tmp_path / "run"), epochs=1, n_resamples=100)
    answers = classifier.predict(list(HARD_TEXTS))
    assert len(answers) == len(HARD_TEXTS)
    assert set(answers) <= {"good", "bad"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    config = AutoConfig.from_pretrained(tmp_path / "run" / "model")
    assert tokenizer.pad_token_id is not None
    assert before_any_forward == [tokenizer.pad_token_id]
    assert config.pad_token_id == tokenizer.pad_token_id
    assert config.vocab_size == len(tokenizer) == AutoConfig.from_pretrained(base).vocab_size


# S2


@pytest.mark.parametrize(
    ("family", "template"),
    [
        *((family, "summary") for family in FAMILIES if family != "mistral"),
        ("mistral", "Text: {text}"),  # two layers with a window of 6 see no text past the summary's suffix
        ("llama", "eos"),
        ("gpt2", "Text: {text}"),
        ("gemma3", "{text} is"),
    ],
)
def test_s2_padding_and_company_do_not_change_the_logits(runs, family, template):
    """HARD_TEXTS hold the pad and the end token as text; transformers pads, we do not."""
    run = runs(family, template=template)
    ours = run.classifier.scorer.score(HARD_TEXTS)
    assert np.abs(ours - ours[0]).max() > 1e-3, "texts differ in their scores"
    alone = np.concatenate([run.classifier.scorer.score([t]) for t in HARD_TEXTS])
    np.testing.assert_allclose(alone, ours, rtol=1e-5, atol=1e-5)
    tokenizer, model = plain_classifier(run.model, run.base)
    for side in ("right", "left"):
        found = plain_logits(tokenizer, model, HARD_TEXTS, side)
        np.testing.assert_allclose(found, ours, rtol=1e-5, atol=1e-5, err_msg=side)
    bare = np.concatenate([plain_logits(tokenizer, model, [t]) for t in HARD_TEXTS])
    np.testing.assert_allclose(bare, ours, rtol=1e-5, atol=1e-5)
    cached = plain_logits(tokenizer, model, HARD_TEXTS, "right", use_cache=True)
    np.testing.assert_allclose(cached, ours, rtol=1e-5, atol=1e-5, err_msg="cache on")


@pytest.mark.parametrize("text", ["<|start|>", "<|end|>"])
def test_s2_the_text_of_a_special_token_is_a_text(runs, text):
    run = runs("llama", template="Text: {text}")
    scores = run.classifier.scorer.score([text, "", text * 2])
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    assert np.abs(scores[0] - scores[2]).max() > 1e-4


# S4, F9


@pytest.fixture(scope="module")
def pre_quantised(tiny_models, tmp_path_factory):
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    folder = tmp_path_factory.mktemp("quantised") / "base"
    shutil.copytree(tiny_models["llama"], folder)
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "four_bit"),
    [
        ({"quantization": "nf4"}, False),
        ({"quantization": "nf4", "nf4_backend": "bitsandbytes"}, True),
        ({"pre_quantised": True}, True),
        ({"pre_quantised": True, "quantization": "nf4"}, True),
    ],
)
def test_s4_a_4_bit_base_has_a_plain_score_and_learns(
    request, tiny_models, data, tmp_path, settings, four_bit
):
    from sortal.backbone.lora import trainable

    pytest.importorskip("bitsandbytes")
    chosen = dict(settings)
    base = tiny_models["llama"]
    if chosen.pop("pre_quantised", False):
        base = request.getfixturevalue("pre_quantised")
    result = fit(data, base, tmp_path / "run", epochs=5, **chosen)
    network = result.classifier.scorer.model
    kinds = [type(m).__name__ for m in network.modules()]
    assert ("Linear4bit" in kinds) is four_bit
    score = network.inner.score.modules_to_save["default"]
    assert type(score) is nn.Linear
    assert score.weight.dtype == torch.float32
    assert any(p is score.weight for p in trainable(network).values())
    training = result.record["training"]
    losses = [entry["train_loss"] for entry in training["history"]]
    assert training["steps"] == 25
    assert training["skipped_steps"] == 0
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]
    again = sortal.load(result.folder / "model")
    np.testing.assert_allclose(
        again.scorer.score(HARD_TEXTS), result.classifier.scorer.score(HARD_TEXTS), atol=1e-5
    )


def test_f9_training_on_4_bit_layers_equals_training_on_their_values(runs):
    """Evaluations after each epoch stand between the training steps; a lost gradient would tell the runs apart."""
    pytest.importorskip("bitsandbytes")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        four_bit = runs("llama", quantization="nf4", nf4_backend="bitsandbytes", epochs=3, eval_per_epoch=2)
    values = runs("llama", quantization="nf4", epochs=3, eval_per_epoch=2)
    np.testing.assert_allclose(
        four_bit.classifier.scorer.score(HARD_TEXTS), values.classifier.scorer.score(HARD_TEXTS), atol=2e-3
    )
    plain = runs("llama", epochs=3, eval_per_epoch=2)
    difference = plain.classifier.scorer.score(HARD_TEXTS) - values.classifier.scorer.score(HARD_TEXTS)
    assert np.abs(difference).max() > 1e-2, "4 bits do make a difference"
    assert [w for w in caught if "autograd" in str(w.message).lower()] == []


# F10, S11: the step/microbatch rule, seen from outside


@pytest.mark.parametrize("family", FAMILIES)
def test_f10_packed_and_padded_training_end_in_the_same_scores(runs, family, monkeypatch):
    from sortal.methods import head_model

    packed = runs(family)
    assert packed.classifier.scorer.model.packed
    monkeypatch.setattr(head_model, "enable_packing", lambda model: False)
    padded = runs(family, save_minutes=4.0)  # another key; the setting itself has no effect
    assert not padded.classifier.scorer.model.packed
    assert any("cannot run packed rows" in line for line in padded.said)
    np.testing.assert_allclose(
        padded.classifier.scorer.score(HARD_TEXTS), packed.classifier.scorer.score(HARD_TEXTS), atol=1e-3
    )


@pytest.mark.parametrize("settings", [{}, {"class_weight": "balanced", "loss": "focal"}])
def test_s11_one_example_per_microbatch_ends_in_the_same_scores(runs, settings):
    whole = runs("llama", max_tokens=100_000, **settings)
    cut = runs("llama", max_tokens=16, **settings)
    np.testing.assert_allclose(
        cut.classifier.scorer.score(HARD_TEXTS), whole.classifier.scorer.score(HARD_TEXTS), atol=1e-3
    )


@pytest.mark.parametrize("settings", [{"class_weight": "balanced"}, {"loss": "focal"}])
def test_s11_shifted_probabilities_are_recalibrated_with_a_word(runs, settings):
    run = runs("llama", **settings)
    assert any("shift the probabilities; they are recalibrated on dev" in line for line in run.said)
    assert run.classifier.decision.temperature != 1.0
    off = runs("llama", temperature_scaling=False, **settings)
    assert any("they are not calibrated" in line for line in off.said)
    assert off.classifier.decision.temperature == 1.0
    assert not any("shift the probabilities" in line for line in runs("llama").said)


# S7


@pytest.mark.parametrize(
    "labels",
    [
        ("zebra", "apple", "Mango"),
        ("10", "9", "2", "1"),
        ("ärger", "Zufrieden", "好", "ñ a"),
        ("b", "a", "c", "B"),
    ],
)
def test_s7_one_label_order_everywhere(tiny, tmp_path, labels):
    import pyarrow.parquet as pq
    from transformers import AutoConfig

    lines = [(f"{'xyzw'[i % len(labels)] * 8} {i}", labels[i % len(labels)]) for i in range(60)]
    result = fit(write_csv(tmp_path / "data.csv", lines), tiny, tmp_path / "run", epochs=8, batch_size=4)
    classifier, model = result.classifier, tmp_path / "run" / "model"
    names = classifier.classes_
    assert set(names) == set(labels)
    assert tuple(read_json(model / "sortal.json")["labels"]) == names
    assert AutoConfig.from_pretrained(model).id2label == dict(enumerate(names))
    assert sortal.load(model).classes_ == names
    columns = pq.read_table(result.folder / "predictions.parquet").column_names
    assert [c for c in columns if c.startswith("p:")] == [f"p:{name}" for name in names]
    texts = [text for text, _ in lines]
    probabilities = classifier.predict_proba(texts)
    assert [names[i] for i in probabilities.argmax(1)] == classifier.predict(texts)
    right = np.mean([a == b for a, b in zip(classifier.predict(texts), (x for _, x in lines), strict=True)])
    assert right > 0.9, "each column belongs to its label: these letters are easily learnt"


# S8


@pytest.mark.parametrize("labels", [("yes", "no"), ("a", "b", "c")])
def test_s8_a_single_label_answer_is_exactly_one_label(tiny, tmp_path, labels):
    lines = [(f"{'xyz'[i % len(labels)] * 5} {i}", labels[i % len(labels)]) for i in range(45)]
    result = fit(write_csv(tmp_path / "data.csv", lines), tiny, tmp_path / "run")
    assert (
        read_json(tmp_path / "run" / "model" / "config.json")["problem_type"] == "single_label_classification"
    )
    for classifier in (result.classifier, sortal.load(tmp_path / "run" / "model")):
        probabilities = classifier.predict_proba(list(HARD_TEXTS))
        assert probabilities.shape == (len(HARD_TEXTS), len(labels))
        np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-9)
        assert all(answer in labels for answer in classifier.predict(list(HARD_TEXTS)))


def test_s8_one_single_label_class_is_refused_with_a_way_out(tiny, tmp_path):
    data = write_csv(tmp_path / "data.csv", [(f"text {i}", "only") for i in range(20)])
    with pytest.raises(DataError, match=r"needs at least two classes"):
        fit(data, tiny, tmp_path / "run")


def test_s8_multi_label_uses_sigmoids(tiny, topics, tmp_path):
    result = fit(topics, tiny, tmp_path / "run", label_delimiter="|", epochs=3)
    classifier, model = result.classifier, tmp_path / "run" / "model"
    assert read_json(model / "config.json")["problem_type"] == "multi_label_classification"
    scores = classifier.scorer.score(HARD_TEXTS)
    expected = 1 / (1 + np.exp(-scores.astype(np.float64) / classifier.decision.temperature))
    for found in (classifier, sortal.load(model)):
        np.testing.assert_allclose(found.predict_proba(list(HARD_TEXTS)), expected, atol=1e-6)
        assert all(isinstance(answer, tuple) for answer in found.predict(list(HARD_TEXTS)))


def test_s8_one_multi_label_label(tiny, tmp_path):
    lines = [("urgent now " * (i % 2) + f"text {i}", i % 2) for i in range(40)]
    data = write_csv(tmp_path / "data.csv", lines, ("text", "urgent"))
    result = fit(data, tiny, tmp_path / "run", label_columns=["urgent"], epochs=6)
    classifier, model = sortal.load(tmp_path / "run" / "model"), tmp_path / "run" / "model"
    assert classifier.classes_ == ("urgent",)
    assert read_json(model / "config.json")["problem_type"] == "multi_label_classification"
    probabilities = classifier.predict_proba(["urgent now text", "text"])
    assert probabilities.shape == (2, 1)
    np.testing.assert_allclose(
        probabilities, result.classifier.predict_proba(["urgent now text", "text"]), atol=1e-6
    )
    assert set(classifier.predict([text for text, _ in lines])) == {("urgent",), ()}


# S10


def test_s10_tuned_thresholds_are_saved_and_decide_everywhere(tiny, topics, tmp_path):
    import pyarrow.parquet as pq

    result = fit(topics, tiny, tmp_path / "run", label_delimiter="|", thresholds="per_label", epochs=2)
    model = tmp_path / "run" / "model"
    thresholds = read_json(model / "sortal.json")["decision"]["thresholds"]
    assert len(thresholds) == 2
    assert tuple(thresholds) == result.classifier.decision.thresholds
    # Thresholds nobody would take by accident, to see who reads them.
    decision = read_json(model / "sortal.json")["decision"]
    texts, chosen = [text for text, _ in TOPICS] * 3, []
    for limits in ([0.0, 1.0], [1.0, 0.0]):
        edit_json(model / "sortal.json", decision={**decision, "thresholds": limits})
        classifier = sortal.load(model)
        kept = tuple(n for n, limit in zip(classifier.classes_, limits, strict=True) if limit == 0)
        assert set(classifier.predict(texts)) == {kept}
        chosen.append(classifier.evaluate(topics, n_resamples=0))
    assert chosen[0]["f1_micro"] > 0
    recalls = [{row["label"]: row["recall"] for row in m["per_label"]} for m in chosen]
    assert recalls == [{"delivery": 1.0, "refund": 0.0}, {"delivery": 0.0, "refund": 1.0}]
    table = pq.read_table(result.folder / "predictions.parquet").to_pylist()
    columns = result.classifier.read(topics)
    by_id = dict(zip(columns.ids, columns.texts, strict=True))
    expected = result.classifier.predict([by_id[row["id"]] for row in table])
    assert [tuple(row["predicted"]) for row in table] == expected


# S14, S15


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
def test_s14_truncation_never_touches_the_template_and_is_counted(tiny, tmp_path, truncation):
    from transformers import AutoTokenizer

    lines = [
        ((f"{label} word " * 20 if i % 3 == 0 else f"{label} {i}") + str(i), label)
        for i, (_, label) in enumerate(rows(40))
    ]
    data = write_csv(tmp_path / "data.csv", lines)
    dev = write_csv(tmp_path / "dev.csv", rows(8))
    test = write_csv(tmp_path / "test.csv", rows(12)[8:])
    said: list[str] = []
    settings = {"dev": str(dev), "test": str(test), "max_length": 60, "truncation": truncation}
    fit(data, tiny, tmp_path / "run", said=said, **settings)
    long = sum(i % 3 == 0 for i in range(40))
    assert any(
        f"; {long} truncated to 60 tokens" in line and f"keeps the {truncation}" in line for line in said
    )
    classifier = sortal.load(tmp_path / "run" / "model")
    encoder, texts = classifier.scorer.encoder, [text for text, _ in lines]
    encoded = encoder.encode(texts)
    assert encoded.truncated == long
    front, back = list(encoder.template.prefix), list(encoder.template.suffix)
    for ids in encoded:
        assert len(ids) <= 60
        assert ids[: len(front)].tolist() == front
        assert ids[-len(back) :].tolist() == back
    if truncation != "head+tail":
        plain = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")(texts, truncation=True)["input_ids"]
        assert [ids.tolist() for ids in encoded] == plain


def test_s15_dry_run_shows_decoded_what_training_and_serving_read(tiny, data, tmp_path, capsys):
    from transformers import AutoTokenizer

    from sortal.cli.main import main

    arguments = ["train", str(data), "--model", str(tiny), "--max-length", "90", "--truncation", "tail"]
    assert main([*arguments, "--out", str(tmp_path / "none"), "--dry-run", "--json"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out.strip().splitlines()[-1])
    assert not (tmp_path / "none").exists()
    assert len(summary["rows"]) == 3
    fit(data, tiny, tmp_path / "run", max_length=90, truncation="tail")
    model = tmp_path / "run" / "model"
    texts = [row["text"] for row in summary["rows"]]
    served = [ids.tolist() for ids in sortal.load(model).scorer.encoder.encode(texts)]
    assert [row["ids"] for row in summary["rows"]] == served
    assert AutoTokenizer.from_pretrained(model)(texts, truncation=True)["input_ids"] == served
    known = dict(rows(45, LABELS))
    for row in summary["rows"]:
        assert row["decoded"] == f'This sentence: "{row["text"]}" means in one word: "'
        assert repr(row["decoded"]) in printed.err
        assert str(row["ids"]) in printed.err
        assert row["read_at"] == [len(row["ids"]) - 1]
        assert row["labels"] == [known[row["text"]]]
        assert summary["labels"][row["target"]] == known[row["text"]]


def test_s15_the_loss_sees_the_rows_of_the_dry_run(tiny, data, tmp_path, monkeypatch):
    from sortal.config import build_config
    from sortal.dry_run import dry_run
    from sortal.training import loop

    seen: dict[tuple, int] = {}
    real = loop.Loop._microbatch

    def microbatch(self, indices, n):
        for index in indices:
            seen[tuple(self.objective.texts[index].tolist())] = int(self.objective.targets[index])
        return real(self, indices, n)

    monkeypatch.setattr(loop.Loop, "_microbatch", microbatch)
    shown = dry_run(
        build_config({"data": str(data), "model": str(tiny), "max_length": 128}), say=lambda _: None
    )
    fit(data, tiny, tmp_path / "run")
    for row in shown["rows"]:
        assert seen[tuple(row["ids"])] == row["target"]
    assert len(seen) == shown["train_rows"]
