"""Where the answers of every input go."""

from __future__ import annotations

from pathlib import Path

import pytest

from sortal.bulk.inputs import Input
from sortal.bulk.outputs import Output, target
from sortal.errors import ConfigError


def inputs(*names: str, folder: str | None = None) -> list[Input]:
    return [Input(f"data/{name}", name, folder) for name in names]


def test_an_ending_means_one_file_for_all(tmp_path):
    made = target(inputs("a.csv", "b.jsonl"), f"{tmp_path}/p.parquet", None)
    assert made.outputs == (Output(f"{tmp_path}/p.parquet", "parquet", (0, 1)),)
    assert (made.work, made.together) == (f"{tmp_path}/.p.parquet.sortal-predict", True)
    assert target(inputs("a.csv"), "p.csv", None).work == ".p.csv.sortal-predict"


def test_format_says_what_an_ending_does_not(tmp_path):
    assert target(inputs("a.csv"), f"{tmp_path}/answers.txt", "csv").outputs[0].form == "csv"


@pytest.mark.parametrize("out", ["{}/new", "{}/new.v2/", "{}", "file://{}/new"])
def test_a_folder_has_one_file_for_each_in_its_own_format(out, tmp_path):
    out = out.format(tmp_path)
    made = target(inputs("a.csv", "sub/b.parquet", "c.tsv.gz", "d.txt", "e.json", "hub-id"), out, None)
    base = out.rstrip("/")
    assert [(each.path, each.form, each.inputs) for each in made.outputs] == [
        (f"{base}/a.csv", "csv", (0,)),
        (f"{base}/sub/b.parquet", "parquet", (1,)),
        (f"{base}/c.csv", "csv", (2,)),
        (f"{base}/d.jsonl", "jsonl", (3,)),
        (f"{base}/e.jsonl", "jsonl", (4,)),
        (f"{base}/hub-id.jsonl", "jsonl", (5,)),
    ]
    assert (made.work, made.together) == (f"{base}/.sortal-predict", False)


def test_format_is_for_every_file_of_a_folder(tmp_path):
    made = target(inputs("a.csv", "b.parquet"), str(tmp_path), "jsonl")
    assert [Path(each.path).name for each in made.outputs] == ["a.jsonl", "b.jsonl"]


def test_two_inputs_for_one_file_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data/a\.csv and data/a\.tsv would both be written to .*a\.csv"):
        target(inputs("a.csv", "a.tsv"), str(tmp_path), None)


def test_inputs_are_never_overwritten_and_outputs_never_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    with pytest.raises(ConfigError, match=r"data/a\.csv is an input and would be overwritten"):
        target(inputs("a.csv"), "data", None)
    with pytest.raises(ConfigError, match=r"data/a\.csv is an input and would be overwritten"):
        target(inputs("b.csv", "a.csv"), "data/a.csv", None)
    for out in ("data/answers", "data/p.csv"):
        with pytest.raises(ConfigError, match="lies in data, whose files are the inputs"):
            target(inputs("a.csv", folder="data"), out, None)
    assert target(inputs("a.csv", folder="data"), "data2", None).outputs
