"""What the embedding head reads of a text, in training, in a dry run and in serving: S14, S15."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sortal
from head_runs import LABELS
from sortal import planning
from sortal.config import build_config
from tiny_runs import fit, plain_classifier, plain_logits, rows, write_csv


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", rows(45, LABELS))


# S14


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


# S15


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


# Label names in the template


def test_labels_before_every_text_are_read_once_and_the_folder_is_plain_transformers(tiny, data, tmp_path):
    """Training, the saved folder and transformers, which reads them with every text, agree."""
    said: list[str] = []
    fit(data, tiny, tmp_path / "run", said=said, template="labels", max_length=120, blend="none")
    names = ", ".join(sorted(LABELS))
    beginning = f'One of: {names}.\nThis sentence: "'
    assert any(
        f"; {len(beginning)} tokens before every text are read once per microbatch" in line for line in said
    )
    model = tmp_path / "run" / "model"
    classifier, texts = sortal.load(model), [text for text, _ in rows(45, LABELS)]
    tokenizer, plain = plain_classifier(model, tiny)
    assert (
        tokenizer.decode(tokenizer(texts[0])["input_ids"]) == f'{beginning}{texts[0]}" means in one word: "'
    )
    assert classifier.scorer.encoder.shared
    np.testing.assert_allclose(
        classifier.scorer.score(texts), plain_logits(tokenizer, plain, texts), rtol=1e-4, atol=1e-4
    )


def test_a_dry_run_shows_the_labels_and_a_plan_counts_them_once(tiny, data, tmp_path, capsys):
    from sortal.cli.main import main

    arguments = ["train", str(data), "--model", str(tiny), "--template", "labels", "--max-length", "120"]
    assert main([*arguments, "--out", str(tmp_path / "none"), "--dry-run", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    names = ", ".join(sorted(LABELS))
    for row in summary["rows"]:
        assert row["decoded"] == f'One of: {names}.\nThis sentence: "{row["text"]}" means in one word: "'
        assert row["read_at"] == [len(row["ids"]) - 1]
    found = planning.plan(
        build_config({"data": str(data), "model": str(tiny), "template": "labels"}), say=lambda line: None
    )
    assert found.shared_tokens == len(f'One of: {names}.\nThis sentence: "')
    assert found.longest == max(len(text) for text, _ in rows(45, LABELS)) + len('" means in one word: "')


def test_an_architecture_that_cannot_share_reads_whole_texts_and_says_so(tiny, data, tmp_path, monkeypatch):
    settings = {"template": "labels", "max_length": 120}
    together = fit(data, tiny, tmp_path / "shared", **settings)
    monkeypatch.setattr("sortal.methods.head.can_share", lambda base: False)
    said: list[str] = []
    alone = fit(data, tiny, tmp_path / "alone", said=said, **settings)
    assert any("cannot share the beginning of texts exactly" in line for line in said)
    read, once = (each.record["training"]["train_tokens_per_epoch"] for each in (alone, together))
    beginning = len(f'One of: {", ".join(sorted(LABELS))}.\nThis sentence: "')
    assert read - once == beginning * together.record["data"]["train"]["rows"]
    assert alone.metrics["log_loss"] == pytest.approx(together.metrics["log_loss"], rel=1e-3)


def test_with_adapters_on_top_layers_a_shared_beginning_goes_before_kept_states(tiny, data, tmp_path):
    said: list[str] = []
    settings = {"template": "labels", "max_length": 120, "lora_top_layers": 1}
    found = fit(data, tiny, tmp_path / "run", said=said, **settings)
    assert any("the states below the tuned layers are computed in every epoch" in line for line in said)
    assert not found.record["training"]["cached_trunk"]
