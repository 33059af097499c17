"""Scores of the embedding head, end to end on tiny random models: S1, S2, S4, S11, F9, F10."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import sortal
from head_runs import LABELS, head_runs
from tiny_runs import FAMILIES, HARD_TEXTS, fit, plain_classifier, plain_logits, rows, write_csv


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", rows(45, LABELS))


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
