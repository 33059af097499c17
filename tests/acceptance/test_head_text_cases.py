"""What the embedding head reads of a text, in training, in a dry run and in serving: S14, S15."""

from __future__ import annotations

import json

import pytest

import sortal
from head_runs import LABELS
from tiny_runs import fit, rows, write_csv


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
