"""Method instruct scores a text alike in any company, after saving, and in plain transformers: S2, S3, S4, S13, F10."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import sortal
from commands import Command
from instruct_runs import BITSANDBYTES, FORMS, NF4, TOPICS, every_node, read_json, texts_of
from plain_answers import label_log_ps, log_p, next_logprobs, plain_model, prompt_ids
from sortal.backbone.language_model import LanguageModel

# S2, F10: alone or in company


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_s2_company_order_and_budget_do_not_change_the_scores(runs, form, family):
    scorer, texts = every_node(runs(form, family).scorer), texts_of(form)
    if form == "list":  # lists go on to their second and third label
        scorer = every_node(scorer, stop_bias=30.0)
    scores = scorer.score(texts)
    assert np.ptp(scores, axis=0).min() > 1e-3, "texts differ in their scores"
    np.testing.assert_allclose(
        np.concatenate([scorer.score([t]) for t in texts]), scores, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(scorer.score(texts[::-1])[::-1], scores, rtol=1e-5, atol=1e-5)
    for max_tokens in (16, 200, 100_000):
        found = replace(scorer, max_tokens=max_tokens).score(texts)
        np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_s2_what_may_be_left_unopened_is_as_little_as_promised(runs, form):
    """The default tolerance: alone, in company and exact agree to about 1e-5 in probability."""
    run, texts = runs(form), texts_of(form)
    found = run.classifier.predict_proba(texts)
    assert run.scorer.scoring.tolerance == 1e-5
    exact = run.classifier.decision.probabilities(every_node(run.scorer).score(texts))
    alone = np.concatenate([run.classifier.predict_proba([t]) for t in texts])
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-5)
    np.testing.assert_allclose(alone, exact, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_s2_labels_alone_are_the_likeliest_of_the_probabilities(runs, family):
    """`predict` opens less of the tree than `predict_proba`, and decides the same."""
    run, texts = runs("label", family), texts_of("label")
    likeliest = run.classifier.predict_proba(texts).argmax(1)
    assert run.classifier.predict(texts) == [run.classifier.classes_[i] for i in likeliest]
    deciding = run.scorer.deciding()
    assert deciding is not run.scorer
    for settings in ({"tolerance": 0.0}, {"length_normalization": True}, {"prior_correction": True}):
        other = replace(run.scorer, scoring=replace(run.scorer.scoring, **settings))
        assert other.deciding() is other, "there the likeliest answer need not be the best label"


def test_s2_abstaining_needs_probabilities(runs):
    run, texts = runs("label"), texts_of("label")
    best = run.classifier.predict_proba(texts).max(1)
    careful = replace(
        run.classifier, decision=replace(run.classifier.decision, abstain_below=float(np.median(best)))
    )
    expected = best < np.median(best)
    assert [label is None for label in careful.predict(texts)] == expected.tolist()
    assert 0 < expected.sum() < len(texts)


def test_a_saved_model_computes_its_prompt_once(runs, monkeypatch):
    scorer = sortal.load(runs("label").model).scorer
    prompts, real = [], LanguageModel.remember
    monkeypatch.setattr(
        LanguageModel, "remember", lambda self, ids: prompts.append(len(ids)) or real(self, ids)
    )
    first = scorer.score(["a text"])
    np.testing.assert_array_equal(scorer.score(["a text"]), first)
    assert len(prompts) == 1
    tuning = replace(scorer, frozen=False)
    tuning.score(["a text"])
    tuning.score(["a text"])
    assert len(prompts) == 3, "while weights change, every call needs the prompt under the new ones"


def test_s2_a_model_that_cannot_share_gives_the_same_scores(runs, monkeypatch):
    from sortal.methods import instruct as method

    shared = runs("label")
    monkeypatch.setattr(method, "enable_trees", lambda model: False)
    alone = runs("label", save_minutes=4.0)  # another key; the setting itself has no effect
    assert not alone.scorer.model.shares
    assert any("cannot share a prompt" in line for line in alone.said)
    for part in ("adapter_model.safetensors",):
        ours, theirs = load_file(shared.model / part), load_file(alone.model / part)
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-3)
    texts = texts_of("label")
    np.testing.assert_allclose(
        alone.classifier.predict_proba(texts), shared.classifier.predict_proba(texts), atol=1e-3
    )


# S3, S4


def test_s3_fresh_processes_give_the_answers_given_before_saving(runs, tmp_path):
    several = {"chat": runs("label", "chat", shots=1), "each": runs("each"), "list": runs("list")}
    data = tmp_path / "texts.jsonl"
    texts = [text for text in texts_of("label") if text]
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    started = [
        Command("predict", run.model, data, "--out", f"{name}.parquet", folder=tmp_path)
        for name, run in several.items()
    ]
    for command, (name, run) in zip(started, several.items(), strict=True):
        assert command.wait() == 0, command.stderr
        table = pq.read_table(tmp_path / f"{name}.parquet")
        names = [c for c in table.column_names if c.startswith("p:")]
        assert names == [f"p:{label}" for label in run.classifier.classes_]
        after = np.stack([table[c].to_numpy() for c in names], axis=1)
        before = run.classifier.predict_proba(texts)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6, err_msg=name)
        answers = table["predicted"].to_pylist()
        if run.classifier.label_space.task == "multi":
            answers = [tuple(answer) for answer in answers]
        assert answers == run.classifier.predict(texts)


@pytest.mark.parametrize(("form", "settings"), [("label", BITSANDBYTES), ("each", NF4), ("list", NF4)])
def test_s4_a_4_bit_base_learns_and_loads(runs, form, settings):
    pytest.importorskip("bitsandbytes")
    run = runs(form, **settings)
    kinds = [type(m).__name__ for m in run.scorer.model.modules()]
    assert ("Linear4bit" in kinds) is (settings is BITSANDBYTES)
    assert run.result.record["training"]["skipped_steps"] == 0
    assert "quantization_config" not in read_json(run.model / "config.json")
    again = sortal.load(run.model)
    texts = texts_of(form)
    np.testing.assert_allclose(
        again.predict_proba(texts), run.classifier.predict_proba(texts), rtol=0, atol=2e-5
    )


# S13: each column is the probability of its own label's wording


SOME = ("a", "fine and nice, thank you", "", "x <|start|> <|im_end|>\nLabel: odd", "Ünïcode 文字 \U0001f600")


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "chat"])
def test_s13_probabilities_are_those_of_whole_answers_in_plain_transformers(runs, family):
    """A softmax over sequence log-probabilities, terminator included, from the saved folder."""
    run = runs("label", family)
    assert run.classifier.decision.temperature == 1.0
    tokenizer, model = plain_model(run)
    expected = np.stack([label_log_ps(run, tokenizer, model, text) for text in SOME])
    np.testing.assert_allclose(every_node(run.scorer).score(SOME), expected, rtol=1e-5, atol=1e-5)
    softmax = np.exp(expected - expected.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    np.testing.assert_allclose(run.classifier.predict_proba(SOME), softmax, rtol=0, atol=2e-5)
    exact = run.classifier.decision.probabilities(every_node(run.scorer).score(SOME))
    np.testing.assert_allclose(exact, softmax, rtol=0, atol=1e-5)
    assert expected.std(0).min() > 1e-2, "the text matters"


def test_s13_the_first_token_of_a_sequence_stands_there_once(runs):
    for run in (runs("label", "chat"), runs("label", "chat", prompt_format="plain", epochs=0)):
        shared = run.scorer.prompt.shared().tolist()
        assert shared[0] == 1
        assert shared.count(1) == 1
    assert runs("label", "chat").scorer.prompt.text.format == "chat", (
        "the default where there is a chat format"
    )


def test_s13_yes_and_no_are_compared_after_every_label(runs):
    run = runs("each")
    tokenizer, model = plain_model(run)
    yes, no = (tokenizer(word)["input_ids"][1] for word in (" yes", " no"))
    expected = []
    for text in SOME:
        before = prompt_ids(run, tokenizer, text)
        for name in run.classifier.classes_:
            last = next_logprobs(model, [*before, *tokenizer(f"\n{name}:")["input_ids"]])[-1]
            expected.append(float(last[yes] - last[no]))
    expected = np.array(expected).reshape(len(SOME), -1)
    np.testing.assert_allclose(run.scorer.score(SOME), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        run.classifier.predict_proba(SOME), 1 / (1 + np.exp(-expected)), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("stop_bias", [0.0, 30.0])
def test_s13_a_list_is_decoded_as_a_loop_over_plain_forwards_decodes_it(runs, stop_bias):
    run = runs("list")
    tokenizer, model = plain_model(run)
    names, end = run.classifier.classes_, tokenizer.eos_token_id
    (comma,) = tokenizer(",")["input_ids"]
    most = max(len(labels.split("|")) for _, labels in TOPICS)
    for text in SOME:
        before, last, stop, best = prompt_ids(run, tokenizer, text), -1, 0.0, np.full(len(names), -np.inf)
        for number in range(most):
            wordings = [tokenizer(f" {name}")["input_ids"] for name in names]
            ended = np.array([log_p(model, before, [*ids, end]) for ids in wordings])
            going = np.array([log_p(model, before, [*ids, comma]) for ids in wordings])
            mass = np.exp(ended) + np.exp(going)
            mass[: last + 1] = 0.0
            if number == 0:
                nothing = float(next_logprobs(model, before)[-1, end].exp())
                stop = nothing / (nothing + mass.sum())
            p = (1 - stop) * mass / mass.sum()
            best = np.maximum(best, np.log(p, where=p > 0, out=np.full(len(p), -np.inf)))
            last = int(p.argmax())
            if np.log(stop) - np.log(p[last]) >= stop_bias or last == len(names) - 1:
                break
            stop = float(np.exp(ended[last]) / (np.exp(ended[last]) + np.exp(going[last])))
            before = [*before, *wordings[last], comma]
        p = np.clip(np.exp(best), 1e-9, 1 - 1e-9)
        found = every_node(run.scorer, stop_bias=stop_bias).score([text])[0]
        np.testing.assert_allclose(found, np.log(p) - np.log1p(-p), rtol=1e-4, atol=1e-4)
        if stop_bias:
            assert number > 0, "it went on"
