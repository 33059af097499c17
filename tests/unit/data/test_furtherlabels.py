"""Further labels of a row: one more column, in every form that labels come in."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortal.data.furtherlabels import read_further_labels
from sortal.errors import DataError

ROWS = [("A", "B"), (), ("C",), ("A", "C")]


def test_lists_in_parquet(tmp_path):
    pq.write_table(pa.table({"text": ["x"] * 4, "all": [list(row) for row in ROWS]}), tmp_path / "d.parquet")
    assert read_further_labels(tmp_path / "d.parquet", "all", print) == ROWS


def test_several_in_a_cell(tmp_path):
    lines = ["text,all", *(f"x,{'|'.join(row)}" for row in ROWS)]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_further_labels(tmp_path / "d.csv", "all", print) == ROWS


def test_lists_in_json_lines_some_missing(tmp_path):
    lines = [json.dumps({"text": "x", **({"all": row} if row else {})}) for row in ROWS]
    (tmp_path / "d.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert read_further_labels(tmp_path / "d.jsonl", "all", print) == ROWS


def test_a_missing_column_names_the_nearest(tmp_path):
    (tmp_path / "d.csv").write_text("text,all_classes\nx,A\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'al_classes'; did you mean 'all_classes'"):
        read_further_labels(tmp_path / "d.csv", "al_classes", print)


def test_they_are_spelled_as_the_labels_that_a_model_was_trained_on(write, heard):
    path = write("a.csv", "text,label,also\na,Unknown,True\nb,True,False\n")
    assert read_further_labels(path, "also", heard, "names") == [("True",), ("False",)]
    assert read_further_labels(path, "also", heard) == [("true",), ("false",)]
