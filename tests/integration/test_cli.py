"""The verbs from end to end: what is written, what is said where, and what a mistake looks like."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import accidents
import sortal
from commands import Command
from sortal.cli.main import main
from tiny_runs import rows, write_csv

ODD = [
    "",
    "   ",
    "fine\nand nice",
    "😀👩‍👩‍👧",
    "a\u200b\u2060b",
    "שלום עולם",
    "\u202eevil",
    'say "hi", x',
    "e\u0301",
]


@pytest.fixture
def classifier(trained: Any) -> sortal.Classifier:
    return sortal.load(trained.model)


def run_json(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "run.json").read_text())
    return values


@pytest.mark.slow
def test_a_fresh_process_says_nothing_but_what_is_ours_and_ends_stdout_with_json(
    train_words, trained, tmp_path
):
    words = train_words(trained.train, "--epochs", "1", "--out", "run", "--json")
    env = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    command = [sys.executable, "-m", "sortal", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    summary = json.loads(line)
    assert summary["status"] == "finished"
    assert Path(tmp_path / summary["model"] / "sortal.json").exists()
    assert 0 <= summary["accuracy"] <= 1
    stray = re.compile(r"warn|deprecat|kernel|fail|it/s|newly|token_type|tokenizers before", re.IGNORECASE)
    assert [line for line in done.stderr.splitlines() if stray.search(line)] == []
    assert "epoch 1  train loss" in done.stderr
    assert "accuracy" in done.stderr


def test_dev_predictions_are_those_of_the_model_that_was_kept(trained):
    dev = pq.read_table(trained.run / "dev_predictions.parquet").to_pylist()
    rows = {f["id"]: f for f in dev}
    record = json.loads((trained.run / "run.json").read_text())
    assert len(rows) == record["data"]["dev"]["rows"]
    best = max(entry["accuracy"] for entry in record["training"]["history"])
    assert np.mean([row["gold"] == row["predicted"] for row in dev]) == pytest.approx(best)


def test_a_run_folder_holds_what_the_contract_says(trained):
    names = {p.name for p in trained.run.iterdir()}
    assert names == {
        "run.json",
        "metrics.json",
        "predictions.parquet",
        "dev_predictions.parquet",
        "twins.csv",
        "model",
        "checkpoints",
        "logs",
    }
    model = {p.name for p in trained.model.iterdir()}
    assert {"config.json", "adapter_config.json", "adapter_model.safetensors", "sortal.json"} <= model
    assert {"tokenizer.json", "README.md"} <= model
    record = run_json(trained.run)
    assert record["status"] == "finished"
    assert {"command", "config", "environment", "training", "data", "inference", "seconds"} <= set(record)
    assert record["training"]["tokens"] > 0 < record["training"]["peak_memory_bytes"]
    assert record["data"]["train"]["rows"] == 72
    assert any("tfevents" in p.name for p in (trained.run / "logs").iterdir())


def test_files_of_a_model_are_as_readable_as_its_folder(trained):
    modes = {p.name: p.stat().st_mode & 0o666 for p in trained.model.iterdir()}
    assert set(modes.values()) == {trained.model.stat().st_mode & 0o666}


def test_an_encoder_says_how_words_are_added_and_that_command_trains_nothing_again(
    trained, tiny_encoders, tmp_path, capsys, monkeypatch
):
    words = ["train", trained.train, "--dev", trained.dev, "--test", trained.test, "--epochs", "1"]
    words += [
        "--method",
        "encoder",
        "--model",
        tiny_encoders["bert"],
        "--set",
        "threads=1",
        "n_resamples=100",
    ]
    words = [str(word) for word in words]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next ")]
    added = re.search(r"--blend tfidf --tuned \S+ --out \S+", line).group().split()
    monkeypatch.setattr("sortal.training.loop.Loop.run", lambda loop: pytest.fail("trained again"))
    assert main([*words, *added]) == 0
    assert "next " not in capsys.readouterr().err
    assert "blend" in run_json(tmp_path / "run-tfidf")["training"]


def test_a_head_is_blended_unless_that_is_declined(train_words, trained, tmp_path, capsys):
    assert run_json(trained.run)["config"]["blend"] == "tfidf"
    words = [trained.train, "--dev", trained.dev, "--test", trained.test, "--epochs", "1"]
    assert main(train_words(*words, "--blend", "none", "--out", tmp_path / "run")) == 0
    assert "next " not in capsys.readouterr().err
    assert run_json(tmp_path / "run")["config"]["blend"] == "none"
    assert "blend" not in run_json(tmp_path / "run")["training"]


def test_evaluate_gives_the_figures_of_the_run_on_the_same_file(trained, tmp_path, capsys):
    assert (
        main(["evaluate", str(trained.model), str(trained.test), "--out", str(tmp_path / "e"), "--json"]) == 0
    )
    found = capsys.readouterr()
    (line,) = found.out.splitlines()
    ours, theirs = (
        json.loads((tmp_path / "e/metrics.json").read_text()),
        json.loads((trained.run / "metrics.json").read_text()),
    )
    figures = [key for key, value in theirs.items() if isinstance(value, float)]
    assert len(figures) >= 5
    for key in figures:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-6)
        assert json.loads(line)[key] == ours[key]
    assert ours["per_label"] == theirs["per_label"]
    tables = [pq.read_table(folder / "predictions.parquet") for folder in (tmp_path / "e", trained.run)]
    assert tables[0].column_names == tables[1].column_names
    assert tables[0]["predicted"].equals(tables[1]["predicted"])
    assert "accuracy" in found.err


def test_predict_gives_the_same_answers_in_every_format(trained, classifier, tmp_path, capsys):
    texts = [text for text, _ in rows(120, ("good", "bad", "odd"))][96:]
    labels, probabilities = classifier.predict(texts), classifier.predict_proba(texts)
    assert len(set(labels)) > 1
    names = classifier.classes_
    for suffix in ("jsonl", "csv", "parquet"):
        out = tmp_path / f"p.{suffix}"
        assert main(["predict", str(trained.model), str(trained.test), "--out", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"rows": 24, "out": str(out)}
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    with (tmp_path / "p.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    for row, (label, values) in enumerate(zip(labels, probabilities, strict=True)):
        assert lines[row]["id"] == cells[row]["id"] == table[row]["id"] == str(row + 1)
        assert lines[row]["label"] == cells[row]["label"] == table[row]["predicted"] == label
        for name, value in zip(names, values, strict=True):
            assert lines[row]["probabilities"][name] == pytest.approx(value, abs=1e-5)
            assert float(cells[row][f"p:{name}"]) == pytest.approx(value, abs=1e-5)
            assert table[row][f"p:{name}"] == pytest.approx(value, abs=1e-5)
    assert {p.name for p in tmp_path.iterdir()} == {"p.jsonl", "p.csv", "p.parquet"}


def piped(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def test_predict_reads_lines_on_stdin_and_writes_lines_on_stdout(trained, classifier, monkeypatch, capsys):
    texts = ["poor thing", "", "größer 文字", "great"]
    piped(b"\xef\xbb\xbf" + "\r\n".join(texts).encode(), monkeypatch)
    assert main(["predict", str(trained.model), "-", "--top", "2", "--json"]) == 0
    *lines, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert summary == {"rows": 4, "out": None}
    assert [line["id"] for line in lines] == ["1", "2", "3", "4"]
    assert [line["label"] for line in lines] == classifier.predict(texts)
    assert all(len(line["probabilities"]) == 2 for line in lines)
    assert all(next(iter(line["probabilities"])) == line["label"] for line in lines), "the best first"


def test_bytes_that_are_no_text_are_answered_too(trained, monkeypatch, capsys):
    piped(b"caf\xe9\n\xff\xfe\n", monkeypatch)
    assert main(["predict", str(trained.model), "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_reader_that_goes_away_is_no_error(trained, tmp_path):
    words = ["predict", trained.model, trained.test]
    command = Command(*words, folder=tmp_path, before=accidents.nobody_reads_stdout())
    assert command.wait() == 0
    assert command.stderr == ""


def test_b3_odd_texts_keep_their_rows_order_and_ids(trained, classifier, tmp_path):
    source = tmp_path / "odd.jsonl"
    records = [{"key": f"k{i}", "text": text} for i, text in enumerate([*ODD, None])]
    lines = [json.dumps(record) for record in records]
    lines.append('{"key": "surrogate", "text": "a \\ud83d b"}')
    source.write_text("\n".join(lines) + "\n")
    out = tmp_path / "p.jsonl"
    assert main(["predict", str(trained.model), str(source), "--id", "key", "--out", str(out)]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in found] == [*(record["key"] for record in records), "surrogate"]
    assert [line["label"] for line in found] == classifier.predict([*ODD, "", "a \ud83d b"])


def test_predict_needs_no_label_column_and_takes_other_column_names(trained, classifier, tmp_path, capsys):
    plain = write_csv(tmp_path / "plain.csv", [("poor",), ("great",)], ("text",))
    renamed = write_csv(tmp_path / "renamed.csv", [("x1", "poor"), ("x2", "great")], ("nr", "message"))
    for words in ([plain], [renamed, "--text", "message", "--id", "nr"]):
        assert main(["predict", str(trained.model), *map(str, words)]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["label"] for line in found] == classifier.predict(["poor", "great"])
    assert [line["id"] for line in found] == ["x1", "x2"]


def test_flags_win_over_set_and_file_and_all_reach_the_record(trained, train_words, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(f"data: {trained.train}\nepochs: 3\nseed: 4\nlora_r: 2\ntext: text\n")
    words = ["--config", file, "--epochs", "1", "--out", tmp_path / "run"]
    assert main(train_words(*words, settings=("lora_alpha=4",))) == 0
    config = run_json(tmp_path / "run")["config"]
    assert [config[key] for key in ("epochs", "seed", "lora_r", "lora_alpha")] == [1, 4, 2, 4]
    assert config["data"] == str(trained.train)
    adapter = json.loads((tmp_path / "run/model/adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"]) == (2, 4)


def test_several_text_columns_and_lists_behind_one_flag(train_words, tmp_path):
    made = [(text, "re: it", label) for text, label in rows(30)]
    data = write_csv(tmp_path / "d.csv", made, ("body", "title", "label"))
    words = train_words(
        data, "--text", "title", "body", "--text-template", "{title} | {body}", "--epochs", "0"
    )
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    schema = json.loads((tmp_path / "run/model/sortal.json").read_text())["schema"]
    assert (schema["text"], schema["text_template"]) == (["title", "body"], "{title} | {body}")


def test_no_epochs_evaluate_an_untrained_head(trained, train_words, tmp_path):
    assert main(train_words(trained.train, "--epochs", "0", "--out", tmp_path / "run")) == 0
    record = run_json(tmp_path / "run")
    assert record["training"]["steps"] == record["training"]["tokens"] == 0
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert len(sortal.load(tmp_path / "run" / "model").predict(["a", "b"])) == 2


def test_abstaining_gives_null_in_every_format_and_the_trade_is_shown(trained, train_words, tmp_path, capsys):
    words = train_words(trained.train, "--epochs", "1", "--abstain-below", "1", "--out", tmp_path / "run")
    assert main(words) == 0
    assert "Abstaining below a probability" in capsys.readouterr().err
    model = str(tmp_path / "run" / "model")
    for suffix in ("jsonl", "csv", "parquet"):
        assert main(["predict", model, str(trained.test), "--out", str(tmp_path / f"p.{suffix}")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert {line["label"] for line in lines} == {None}
    assert {row["label"] for row in csv.DictReader((tmp_path / "p.csv").open())} == {""}
    assert pq.read_table(tmp_path / "p.parquet")["predicted"].null_count == 24
    assert sortal.load(model).predict(["great"]) == [None]


def test_a_finished_run_is_not_trained_again_by_resume(trained, train_words, capsys):
    before = {p: p.stat().st_mtime_ns for p in trained.run.rglob("*")}
    assert main([*train_words(trained.train, "--out", trained.run, "--resume", "--json")]) == 0
    found = capsys.readouterr()
    assert f"{trained.run} is finished already; nothing to do" in found.err
    summary = json.loads(found.out)
    assert summary["accuracy"] == json.loads((trained.run / "metrics.json").read_text())["accuracy"]
    assert {p: p.stat().st_mtime_ns for p in trained.run.rglob("*")} == before


def test_runs_without_a_name_get_one_each(trained, train_words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(train_words(trained.train, "--epochs", "0", "--seed", "3")) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["train-head-3", "train-head-3-2"]


def test_dry_run_shows_rows_and_writes_nothing(trained, train_words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(train_words(trained.train, "--dry-run", "--json")) == 0
    found = capsys.readouterr()
    summary = json.loads(found.out)
    assert summary["status"] == "dry-run"
    assert len(summary["rows"]) == 3
    assert "Nothing was trained." in found.err
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "no such file": (["train", "d.cvs"], "d.cvs does not exist; the nearest names in . are 'd.csv'", 2),
    "no such column": (["train", "d.csv", "--label", "lable"], "d.csv has no column 'lable'", 2),
    "no such text": (["train", "d.csv", "--text", "body"], "d.csv has no column 'body'", 2),
    "no such test file": (["train", "d.csv", "--test", "t.csv"], "t.csv does not exist", 2),
    "no such model": (["train", "d.csv", "--model", "./nowhere"], "model './nowhere' does not exist", 2),
    "no model at all": (["train", "d.csv", "--model", "d.csv"], "d.csv is not a model", 2),
    "no template room": (
        ["train", "d.csv", "--max-length", "20"],
        "max_length 20 leaves no room for a text",
        2,
    ),
    "no such config": (["train", "d.csv", "--config", "c.yaml"], "config file c.yaml does not exist", 2),
    "no model folder": (["evaluate", "nowhere", "d.csv"], "nowhere is not a Sortal model folder", 2),
    "a run's folder": (["predict", "RUN", "d.csv"], "is a run's folder, not a model's", 2),
    "no data to evaluate": (["evaluate", "MODEL", "e.csv"], "e.csv does not exist", 2),
    "unknown labels": (["evaluate", "MODEL", "other.csv"], "other.csv", 2),
    "no text to predict": (["predict", "MODEL", "numbers.csv"], "numbers.csv has no column 'text'", 2),
    "no such format": (["predict", "MODEL", "d.csv", "--out", "p.xlsx"], "unknown format '.xlsx'", 2),
    "no such folder": (["predict", "MODEL", "d.csv", "--out", "x/p.csv"], "does not exist", 2),
    "a folder as file": (["predict", "MODEL", "d.csv", "--out", "dir.csv"], "--out dir.csv is a folder", 2),
    "a file as folder": (
        ["evaluate", "MODEL", "d.csv", "--out", "d.csv"],
        "--out d.csv is a file, not a folder",
        2,
    ),
    "a run as place for other figures": (
        ["evaluate", "MODEL", "d.csv", "--out", "RUN"],
        "is the folder of a run, whose own figures and predictions would be overwritten",
        2,
    ),
}


@pytest.mark.parametrize(("words", "sentence", "code"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_sentence_with_advice_and_leaves_nothing(
    trained, tiny, tmp_path, monkeypatch, capsys, words, sentence, code
):
    monkeypatch.chdir(tmp_path)
    write_csv(Path("d.csv"), rows(40))
    write_csv(Path("other.csv"), rows(6, ("never", "seen")))
    write_csv(Path("numbers.csv"), [(1, 2)], ("a", "b"))
    Path("dir.csv").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    words = [{"MODEL": str(trained.model), "RUN": str(trained.run)}.get(word, word) for word in words]
    if words[0] == "train" and "--model" not in words:
        words += ["--model", str(tiny)]
    assert main(words) == code
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("error: ") == 1
    assert sentence in found.err.rpartition("error: ")[2]
    assert found.err.splitlines()[-1].startswith("→ ")
    assert sorted(p.name for p in tmp_path.iterdir()) == before, "not even an empty runs folder"
