"""Every way to write labels down, through ``sortal train`` and back through ``sortal predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortal.cli.main import main
from tiny_runs import rows, write_csv

TEXTS = [text for text, _ in rows(60)]
NUMBERS = [(2, 10, 1)[i % 3] for i in range(60)]
FLAGS = [(int(i % 2 == 0), int(i % 3 == 0)) for i in range(60)]
NAMES = [tuple(name for name, flag in zip(("even", "third"), flags, strict=True) if flag) for flags in FLAGS]


def integers(folder: Path) -> tuple[Path, list[str]]:
    return write_csv(folder / "d.csv", list(zip(TEXTS, NUMBERS, strict=True))), []


def booleans(folder: Path) -> tuple[Path, list[str]]:
    table = pa.table({"text": TEXTS, "label": [flags[0] == 1 for flags in FLAGS]})
    pq.write_table(table, folder / "d.parquet")
    return folder / "d.parquet", []


def strings(folder: Path) -> tuple[Path, list[str]]:
    return write_csv(
        folder / "d.tsv", [(text, f"ünïcode {n}") for text, n in zip(TEXTS, NUMBERS, strict=True)]
    ), []


def wide(folder: Path) -> tuple[Path, list[str]]:
    made = [(text, *flags) for text, flags in zip(TEXTS, FLAGS, strict=True)]
    return write_csv(folder / "d.csv", made, ("text", "even", "third")), ["--label-columns", "third,even"]


def wide_spread(folder: Path) -> tuple[Path, list[str]]:
    return wide(folder)[0], ["--label-columns", "third", "even"]


def delimiter(folder: Path) -> tuple[Path, list[str]]:
    made = [(text, "; ".join(names)) for text, names in zip(TEXTS, NAMES, strict=True)]
    return write_csv(folder / "d.csv", made), ["--label-delimiter", ";"]


def pipe(folder: Path) -> tuple[Path, list[str]]:
    made = [(text, "|".join(names)) for text, names in zip(TEXTS, NAMES, strict=True)]
    return write_csv(folder / "d.csv", made), ["--set", "label_delimiter=|"]


def json_list_in_a_cell(folder: Path) -> tuple[Path, list[str]]:
    made = [(text, json.dumps(names)) for text, names in zip(TEXTS, NAMES, strict=True)]
    return write_csv(folder / "d.csv", made), []


def list_column(folder: Path) -> tuple[Path, list[str]]:
    lines = [json.dumps({"text": t, "labels": names}) for t, names in zip(TEXTS, NAMES, strict=True)]
    (folder / "d.jsonl").write_text("\n".join(lines))
    return folder / "d.jsonl", ["--label", "labels"]


def parquet_list(folder: Path) -> tuple[Path, list[str]]:
    pq.write_table(pa.table({"text": TEXTS, "label": [list(names) for names in NAMES]}), folder / "d.parquet")
    return folder / "d.parquet", []


SINGLE = {
    integers: ["1", "2", "10"],
    booleans: ["false", "true"],
    strings: ["ünïcode 1", "ünïcode 10", "ünïcode 2"],
}
MULTI = {
    wide: ["third", "even"],
    wide_spread: ["third", "even"],
    delimiter: ["even", "third"],
    pipe: ["even", "third"],
    json_list_in_a_cell: ["even", "third"],
    list_column: ["even", "third"],
    parquet_list: ["even", "third"],
}


def trained_on(data: Path, more: list[str], train_words: Any, out: Path) -> dict[str, Any]:
    """sortal.json of a run of one epoch."""
    assert main(train_words(data, *more, "--epochs", "1", "--out", out)) == 0
    meta: dict[str, Any] = json.loads((out / "model" / "sortal.json").read_text())
    return meta


def answers(model: Path, data: Path, capsys: Any) -> list[Any]:
    capsys.readouterr()
    assert main(["predict", str(model), str(data)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line.get("label", line.get("labels")) for line in lines]


@pytest.mark.parametrize(("write", "labels"), SINGLE.items(), ids=[f.__name__ for f in SINGLE])
def test_one_label_per_row(write, labels, train_words, tmp_path, capsys):
    data, more = write(tmp_path)
    meta = trained_on(data, more, train_words, tmp_path / "run")
    assert meta["task"] == "single"
    assert sorted(meta["labels"]) == sorted(labels)
    if write is integers:
        assert meta["labels"] == labels, "in numerical order"
    config = json.loads((tmp_path / "run/model/config.json").read_text())
    assert config["problem_type"] == "single_label_classification"
    assert [config["id2label"][str(i)] for i in range(len(labels))] == meta["labels"]
    assert set(answers(tmp_path / "run/model", data, capsys)) <= set(labels)


@pytest.mark.parametrize(("write", "labels"), MULTI.items(), ids=[f.__name__ for f in MULTI])
def test_several_labels_per_row(write, labels, train_words, tmp_path, capsys):
    data, more = write(tmp_path)
    meta = trained_on(data, more, train_words, tmp_path / "run")
    assert (meta["task"], meta["labels"]) == ("multi", labels)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert {"f1_micro", "f1_macro", "f1_samples", "subset_accuracy", "map"} <= set(metrics)
    gold = pq.read_table(tmp_path / "run/predictions.parquet")
    expected = [sorted(NAMES[int(row) - 1]) for row in gold["id"].to_pylist()]
    assert [sorted(names) for names in gold["gold"].to_pylist()] == expected
    for names in answers(tmp_path / "run/model", data, capsys):
        assert set(names) <= set(labels)


def test_a_folder_with_train_and_test_files(train_words, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    made = rows(60)
    write_csv(folder / "train.csv", made[:40])
    write_csv(folder / "test.csv", made[40:])
    trained_on(folder, [], train_words, tmp_path / "run")
    parts = json.loads((tmp_path / "run/run.json").read_text())["data"]
    assert parts["test"]["rows"] == 20
    assert parts["test"]["source"] == str(folder / "test.csv")
    assert parts["train"]["rows"] + parts["dev"]["rows"] == 40
    assert (tmp_path / "run" / "split.parquet").exists()


def test_dev_and_test_files_are_used_as_they_are(train_words, tmp_path):
    made = rows(60)
    files = [
        write_csv(tmp_path / f"{name}.csv", part)
        for name, part in (("a", made[:30]), ("b", made[30:45]), ("c", made[45:]))
    ]
    trained_on(files[0], ["--dev", str(files[1]), "--test", str(files[2])], train_words, tmp_path / "run")
    parts = json.loads((tmp_path / "run/run.json").read_text())["data"]
    assert {name: part["rows"] for name, part in parts.items()} == {"train": 30, "dev": 15, "test": 15}
    assert not (tmp_path / "run" / "split.parquet").exists()


def test_a_label_only_in_the_test_file_is_refused(train_words, tmp_path, capsys):
    data = write_csv(tmp_path / "train.csv", rows(40))
    test = write_csv(tmp_path / "test.csv", rows(6, ("good", "bad", "new")))
    assert main(train_words(data, "--test", test, "--out", tmp_path / "run")) == 2
    said = capsys.readouterr().err
    assert "test.csv" in said
    assert "'new'" in said
    assert not (tmp_path / "run").exists()
