"""What method instruct reads, and settings that change it: S14, S15, zero-shot, few-shot, wordings."""

from __future__ import annotations

import csv
import json
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sortal
from instruct_runs import (
    FORMS,
    LABELS,
    every_node,
    instruct,
    texts_of,
)
from plain_answers import answer_ids, label_log_ps, log_p, plain_model
from sortal.backbone import language_model
from sortal.cli.main import main
from sortal.config import build_config
from sortal.dry_run import dry_run
from tiny_runs import HARD_TEXTS, rows, write_csv

# S14


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
def test_s14_only_texts_are_truncated_and_counted(tiny, tmp_path, truncation):
    lines = [
        ((f"{label} word " * 20 if i % 3 == 0 else f"{label} {i}") + str(i), label)
        for i, (_, label) in enumerate(rows(40))
    ]
    data = write_csv(tmp_path / "data.csv", lines)
    dev, test = write_csv(tmp_path / "dev.csv", rows(8)), write_csv(tmp_path / "test.csv", rows(12)[8:])
    said: list[str] = []
    settings = {"dev": str(dev), "test": str(test), "max_length": 120, "truncation": truncation}
    result = instruct(data, tiny, tmp_path / "run", said=said, **settings)
    long = sum(i % 3 == 0 for i in range(40))
    assert result.record["training"]["truncated_train_rows"] == long
    assert any(f"; {long} truncated to" in line and f"keeps the {truncation}" in line for line in said)
    shown = dry_run(
        build_config({"data": str(data), "model": str(tiny), "method": "instruct", **settings}),
        say=lambda _: None,
        rows=40,
    )
    assert shown["truncated"] == long
    prompt = sortal.load(tmp_path / "run" / "model").scorer.prompt
    front, cue = prompt.shared().tolist(), prompt.cue.tolist()
    for row, (text, label) in zip(shown["rows"], lines, strict=True):
        answer = [*prompt.answers[prompt.verbalizer.answers.index(label)], prompt.terminator]
        ids = row["ids"]
        assert len(ids) <= 120
        assert len(ids) > 114 or len(text) < 40, "the room is used"
        assert ids[: len(front)] == front
        assert ids[-len(cue) - len(answer) :] == [*cue, *answer]
        kept = prompt.tokenizer.decode(ids[len(front) : -len(cue) - len(answer)])
        whole = " " + text
        if len(text) < 40:
            assert kept == whole
        elif truncation == "head":
            assert whole.startswith(kept)
        elif truncation == "tail":
            assert whole.endswith(kept)
        else:
            half = (len(kept) + 1) // 2
            assert whole.startswith(kept[:half])
            assert whole.endswith(kept[half:])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_s14_a_long_list_of_labels_has_its_place_in_max_length(bases, tmp_path, family):
    """Room is kept for the longest answer that training shows; gpt2 would run out of positions."""
    labels = [f"label number {i}" for i in range(6)]
    lines = [
        (f"text {i} " * (60 if i % 2 else 1), "|".join(name for j, name in enumerate(labels) if i >> j & 1))
        for i in range(36, 64)
    ]
    data = write_csv(tmp_path / "data.csv", lines)
    result = instruct(data, bases[family], tmp_path / "run", "list", max_length=512)
    scorer = result.classifier.scorer
    texts = [text for text, _ in lines[:12]]
    trunks = scorer.trunks(texts)
    most = scorer.scoring.max_labels
    assert most >= 4
    whole = max(
        len(trunks.shared) + len(trunk) + len(scorer.prompt.response(labels))
        for trunk, labels in product(list(trunks), [range(most), range(6 - most, 6)])
    )
    assert 500 < whole <= 512
    assert np.isfinite(every_node(scorer, stop_bias=100.0).score(texts)).all()
    assert sortal.load(tmp_path / "run" / "model").scorer.trunks(texts).lengths.tolist() == list(
        map(len, trunks)
    )


# S15


@pytest.fixture
def trained_on(monkeypatch):
    """The sequences that a loss was computed on, filled while a run trains."""
    seen: set[tuple[int, ...]] = set()
    real = language_model.LanguageModel.states

    def states(self, rows, prompt, memory=None, read=None):
        if torch.is_grad_enabled():  # scoring is not
            for row in rows:
                for ids, path in language_model._paths(row):
                    seen.add((*map(int, prompt), *map(int, ids[path])))
        return real(self, rows, prompt, memory, read)

    monkeypatch.setattr(language_model.LanguageModel, "states", states)
    return seen


@pytest.mark.parametrize(
    ("form", "family", "settings"),
    [
        ("label", "llama", {}),
        ("each", "llama", {}),
        ("list", "llama", {}),
        ("label", "chat", {"shots": 1}),
        ("label", "chat", {"shots": 2, "shot_choice": "nearest"}),
        ("each", "llama", {"shots": 2, "shot_choice": "nearest"}),
        ("list", "llama", {"shots": 2, "shot_choice": "nearest", "max_length": 300}),
        ("label", "llama", {"shots": 2, "shot_choice": "nearest", "shortlist": 3}),
        ("label", "llama", {"shortlist": 2}),
        ("each", "llama", {"shortlist": 2}),
        ("label", "llama", {"template": "Read: {text} -", "max_length": 60}),
    ],
)
def test_s15_the_dry_run_shows_what_training_and_serving_read(
    bases, files, tmp_path, capsys, form, family, settings, trained_on
):
    base, data = bases[family], files[form]
    words = ["train", str(data), "--model", str(base), "--method", "instruct", "--dry-run", "--json"]
    given = {**settings, **({"answer": form, "label_delimiter": "|"} if form != "label" else {})}
    words += ["--out", str(tmp_path / "none"), "--set", "seed=0", *(f"{k}={v}" for k, v in given.items())]
    assert main(words) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out.strip().splitlines()[-1])
    assert not (tmp_path / "none").exists()
    assert len(summary["rows"]) == 3
    result = instruct(data, base, tmp_path / "run", form, **settings)
    scorer = sortal.load(tmp_path / "run" / "model").scorer
    prompt, names = scorer.prompt, summary["labels"]
    assert summary["template_hash"] == result.record["training"]["template_hash"] == prompt.hash
    with data.open(encoding="utf-8", newline="") as file:
        known = {row["text"]: row["label"] for row in csv.DictReader(file)}
    for row in summary["rows"]:
        wanted = [label for label in known[row["text"]].split("|") if label]
        assert row["labels"] == wanted
        positions = sorted(names.index(label) for label in wanted)
        # What the loss saw: all but the last token, which is predicted only; of a question all is read.
        read = row["ids"] if form == "each" else row["ids"][:-1]
        assert tuple(read) in trained_on
        answer = (
            [*prompt.branches[positions[0] if positions else 0]]
            if form == "each"
            else prompt.response(positions)
        )
        trunks = scorer.trunks([row["text"]])
        if "shortlist" not in settings:  # a training row's candidates come from other folds, gold included
            assert row["ids"] == [*trunks.shared.tolist(), *trunks[0].tolist(), *answer]
        else:
            assert row["ids"][: len(trunks.shared)] == trunks.shared.tolist()
            tail = [*prompt.encode([row["text"]])[0].tolist(), *answer]
            assert row["ids"][-len(tail) :] == tail
        # The answer, and nothing else, is predicted; in form each the last token's state is read.
        wording = ", ".join(names[i] for i in positions)
        predicted = prompt.tokenizer.decode([row["ids"][i] for i in row["read_at"]])
        if form == "each":
            assert row["read_at"] == [len(row["ids"]) - 1]
            assert predicted == ":"
        else:
            assert row["read_at"] == list(range(len(row["ids"]) - len(answer), len(row["ids"])))
            end = "<|im_end|>" if family == "chat" else "<|end|>"
            assert predicted.strip() == wording + end
        assert repr(row["decoded"]) in printed.err
        assert str(row["ids"]) in printed.err
        assert row["text"] in row["decoded"]
    if settings.get("shots"):
        shown = {shot.text for shot in prompt.shots}
        assert not shown & {row["text"] for row in summary["rows"]}


# zero-shot, few-shot


@pytest.mark.parametrize("form", FORMS)
def test_epochs_0_measures_the_untuned_model(runs, form):
    run = runs(form, epochs=0)
    training = run.result.record["training"]
    assert training["steps"] == training["tokens"] == 0
    assert 0 <= run.result.metrics["f1_micro"] <= 1
    texts = texts_of(form)
    np.testing.assert_allclose(
        sortal.load(run.model).predict_proba(texts), run.classifier.predict_proba(texts), rtol=0, atol=2e-5
    )
    if form == "label":
        from transformers import AutoModelForCausalLM

        tokenizer, _ = plain_model(run)
        untuned = AutoModelForCausalLM.from_pretrained(run.base)
        found = every_node(run.scorer).score(["fine nice"])[0]
        expected = label_log_ps(run, tokenizer, untuned, "fine nice")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_shots_stand_in_the_prompt_and_are_not_trained_on(bases, files, tmp_path, trained_on):
    said: list[str] = []
    result = instruct(files["label"], bases["llama"], tmp_path / "run", shots=1, said=said, epochs=2)
    prompt = result.classifier.scorer.prompt
    assert len(prompt.shots) == len(LABELS)
    assert any("4 training rows stand in the prompt as examples" in line for line in said)
    decoded, known = prompt.tokenizer.decode(prompt.shared()), dict(rows(48, LABELS))
    counts = dict.fromkeys(LABELS, 0)
    for shot in prompt.shots:
        (label,) = (result.classifier.classes_[i] for i in shot.labels)
        assert known[shot.text] == label
        assert decoded.count(f"Text: {shot.text}\nLabel: {label}\n\n") == 1
        counts[label] += 1
    assert set(counts.values()) == {1}
    texts = {
        prompt.tokenizer.decode(ids[len(prompt.shared()) :]).split("\nLabel:")[0][1:] for ids in trained_on
    }
    assert len(texts) == len(known) - len(prompt.shots) - sum(
        result.record["data"][part]["rows"] for part in ("dev", "test")
    )
    assert texts.isdisjoint(shot.text for shot in prompt.shots)
    settings = {"data": str(files["label"]), "model": str(bases["llama"]), "method": "instruct", "shots": 1}
    dry = dry_run(build_config(settings), say=lambda _: None, rows=99)
    assert {row["text"] for row in dry["rows"]} == texts, "S15: what is shown is what is trained on"
    assert all(row["labels"] == [known[row["text"]]] for row in dry["rows"])
    again = sortal.load(tmp_path / "run" / "model").scorer.prompt
    assert again.shared().tolist() == prompt.shared().tolist()
    assert again.shots == prompt.shots


# settings that change scores


def test_prior_correction_subtracts_the_scores_of_an_empty_text(runs):
    for form in FORMS:
        plain, less = runs(form), runs(form, prior_correction=True)
        texts = texts_of(form)
        scores, prior = every_node(plain.scorer).score(texts), every_node(plain.scorer).score([""])
        assert np.ptp(prior) > 1e-3
        if form == "list":  # its stop bias may have been chosen differently
            scores, prior = (
                every_node(plain.scorer, stop_bias=less.scorer.scoring.stop_bias).score(given)
                for given in (texts, [""])
            )
        np.testing.assert_allclose(every_node(less.scorer).score(texts), scores - prior, rtol=1e-4, atol=1e-4)
        alone = every_node(less.scorer).score(["fine"])
        np.testing.assert_allclose(every_node(less.scorer).score(["x" * 300, "fine"])[1:], alone, atol=1e-4)
        np.testing.assert_allclose(every_node(less.scorer).score([""]), 0.0, atol=1e-4)
        assert "off_set_mass" not in less.result.record["training"], "these are no probabilities any more"


@pytest.mark.parametrize("form", FORMS)
def test_dev_scores_are_scored_as_test_rows_are(bases, files, tmp_path, monkeypatch, form):
    """What the decision is fitted on comes from the scorer that is saved, with its correction and stop bias."""
    from sortal import run as runs_module

    fitted = []
    real = runs_module.decide
    monkeypatch.setattr(
        runs_module,
        "decide",
        lambda found, parts, *rest: fitted.append((found, parts)) or real(found, parts, *rest),
    )
    for number, prior in enumerate((False, True)):
        instruct(files[form], bases["llama"], tmp_path / str(number), form, prior_correction=prior)
        found, parts = fitted[-1]
        np.testing.assert_allclose(
            found.scorer.score(parts.dev.texts), found.dev_scores, rtol=1e-4, atol=1e-4
        )


def test_half_precision_leaves_as_much_unopened_as_its_own_rounding_hides(runs):
    assert runs("label").scorer.scoring.tolerance == 1e-5
    assert runs("label", dtype="bfloat16").scorer.scoring.tolerance == 1e-3
    assert runs("label", dtype="bfloat16", score_tolerance=0.0).scorer.scoring.tolerance == 0.0


def test_length_normalization_divides_by_the_tokens_of_the_answer(runs):
    plain, normal = runs("label"), runs("label", length_normalization=True)
    tokenizer, _ = plain_model(plain)
    lengths = [len(tokenizer(" " + name)["input_ids"]) + 1 for name in plain.classifier.classes_]
    assert len(set(lengths)) > 2
    texts = texts_of("label")
    np.testing.assert_allclose(
        every_node(normal.scorer).score(texts),
        every_node(plain.scorer).score(texts) / lengths,
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        sortal.load(normal.model).scorer.score(texts), normal.scorer.score(texts), atol=1e-4
    )


def test_mass_outside_the_label_set_is_reported(runs):
    run = runs("label")
    mass = run.result.record["training"]["off_set_mass"]
    assert 0 < mass < 1
    assert any("to answers outside the label set" in line for line in run.said)
    every = run.result.classifier.read(run.result.record["data"]["dev"]["source"])
    some = 1 - np.exp(every_node(run.scorer).score(every.texts).astype(np.float64)).sum(1)
    assert some.min() <= mass <= some.max()


# wordings


def test_codes_stand_for_labels(runs):
    """One token each; the list says what they mean."""
    run = runs("label", verbalizer="codes", template="{labels}\n\nText: {text}\nLabel:\n")
    prompt, names = run.scorer.prompt, run.classifier.classes_
    assert [len(answer) for answer in prompt.answers] == [1] * len(names)
    assert prompt.verbalizer.answers == ("A", "B", "C", "D")
    listed = "\n".join(f"{code}: {name}" for code, name in zip("ABCD", names, strict=True))
    assert prompt.tokenizer.decode(prompt.shared()).startswith(listed + "\n\nText:")
    assert set(run.classifier.predict(texts_of("label"))) <= set(names)
    again = sortal.load(run.model)
    np.testing.assert_allclose(
        again.predict_proba(HARD_TEXTS), run.classifier.predict_proba(HARD_TEXTS), atol=2e-5
    )


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_wordings_of_a_file_are_what_the_model_says(tiny, files, tmp_path, kind):
    words = {name: f"w{i}" for i, name in enumerate(LABELS)}
    path = tmp_path / f"words.{kind}"
    if kind == "json":
        path.write_text(json.dumps(words), encoding="utf-8")
    else:
        lines = [(name, word, f"meaning {word}") for name, word in words.items()]
        write_csv(path, lines, ("label", "wording", "description"))
    result = instruct(files["label"], tiny, tmp_path / "run", verbalizer=str(path))
    path.unlink()  # the model folder needs nothing beside it
    classifier = sortal.load(tmp_path / "run" / "model")
    prompt = classifier.scorer.prompt
    assert prompt.verbalizer.answers == tuple(words[name] for name in classifier.classes_)
    meanings = [f": meaning {words[name]}" if kind == "csv" else "" for name in classifier.classes_]
    listed = [words[n] + meaning for n, meaning in zip(classifier.classes_, meanings, strict=True)]
    assert "labels:\n" + "\n".join(listed) + "\n\nText:" in prompt.tokenizer.decode(prompt.shared())
    run = SimpleNamespace(
        classifier=classifier, scorer=classifier.scorer, model=tmp_path / "run" / "model", base=tiny
    )
    tokenizer, model = plain_model(run)
    before = [*prompt.shared().tolist(), *prompt.encode(["fine"])[0].tolist()]
    expected = [log_p(model, before, answer_ids(run, tokenizer, words[name])) for name in classifier.classes_]
    np.testing.assert_allclose(every_node(run.scorer).score(["fine"])[0], expected, rtol=1e-5)
    assert set(result.classifier.predict(["fine", ""])) <= set(LABELS)
