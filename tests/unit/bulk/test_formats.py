"""Answers as lines of JSON, CSV and Parquet, and shards put together."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from sortal.bulk.formats import Format
from sortal.data.labels import LabelSpace
from sortal.evaluation.predictions import read_predictions, write_predictions

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
NAMES = ("good", 'b,"a"d', "ödd")
IDS = ["1", "x\ny"]


def form(kind, task="single", top=None):
    return Format(kind, LabelSpace(NAMES, task), top)


def joined(made, *shards):
    file = io.BytesIO()
    made.join(shards, file)
    return file.getvalue()


def rows_of_csv(made, decided):
    text = joined(made, made.encode(IDS, PROBABILITIES, decided)).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_lines_of_json_have_the_best_label_first_and_null_for_no_answer():
    text = form("jsonl").encode(IDS, PROBABILITIES, np.array([0, -1])).decode()
    first, second = [json.loads(line) for line in text.splitlines()]
    assert first == {"id": "1", "label": "good", "probabilities": {"good": 0.7, 'b,"a"d': 0.2, "ödd": 0.1}}
    assert list(first["probabilities"]) == ["good", 'b,"a"d', "ödd"]
    assert (second["id"], second["label"]) == ("x\ny", None)
    assert next(iter(second["probabilities"])) == "ödd"
    assert "ödd" in text, "readable, not escaped"


def test_top_keeps_the_best_probabilities():
    lines = form("jsonl", top=1).encode(IDS, PROBABILITIES, np.array([0, 2])).decode().splitlines()
    assert [json.loads(line)["probabilities"] for line in lines] == [{"good": 0.7}, {"ödd": 0.8}]


def test_several_labels_are_a_list():
    decided = np.array([[1, 1, 0], [0, 0, 0]], np.uint8)
    lines = form("jsonl", "multi").encode(IDS, PROBABILITIES, decided).decode().splitlines()
    assert [json.loads(line)["labels"] for line in lines] == [["good", 'b,"a"d'], []]
    rows = rows_of_csv(form("csv", "multi"), decided)
    assert [json.loads(row["labels"]) for row in rows] == [["good", 'b,"a"d'], []]


def test_csv_quotes_what_needs_it_and_leaves_no_answer_empty():
    first, second = rows_of_csv(form("csv"), np.array([1, -1]))
    assert first["label"] == 'b,"a"d'
    assert (second["id"], second["label"]) == ("x\ny", "")
    assert [float(first[f"p:{name}"]) for name in NAMES] == [0.7, 0.2, 0.1]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_shards_put_together_are_the_file_of_all_rows(kind):
    made, decided = form(kind), np.array([0, 2])
    shards = [made.encode(IDS[i : i + 1], PROBABILITIES[i : i + 1], decided[i : i + 1]) for i in (0, 1)]
    assert joined(made, *shards) == joined(made, made.encode(IDS, PROBABILITIES, decided))


def test_parquet_is_a_predictions_file_with_a_row_group_for_each_shard(tmp_path):
    made, decided = form("parquet"), np.array([0, -1])
    shards = [made.encode(IDS[i : i + 1], PROBABILITIES[i : i + 1], decided[i : i + 1]) for i in (0, 1)]
    (tmp_path / "joined.parquet").write_bytes(joined(made, *shards))
    write_predictions(tmp_path / "whole.parquet", IDS, PROBABILITIES, decided, made.space)
    ours, whole = (read_predictions(tmp_path / f"{name}.parquet") for name in ("joined", "whole"))
    assert ours.ids == whole.ids == IDS
    assert (ours.names, ours.task) == (whole.names, whole.task)
    np.testing.assert_array_equal(ours.predicted, whole.predicted)
    np.testing.assert_array_equal(ours.probabilities, whole.probabilities)


def test_no_shards_are_a_header(tmp_path):
    assert joined(form("jsonl")) == b""
    assert joined(form("csv")).decode().startswith("id,label,p:good,")
    (tmp_path / "none.parquet").write_bytes(joined(form("parquet")))
    assert read_predictions(tmp_path / "none.parquet").ids == []
