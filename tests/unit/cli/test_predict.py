"""The writers and readers of ``sortal predict``, with a classifier of fixed answers."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sortal.cli import predict
from sortal.data.labels import LabelSpace

SINGLE = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
NAMES = ("good", 'b,"a"d', "ödd")


def classifier(task: str) -> Any:
    space = LabelSpace(NAMES, task)  # type: ignore[arg-type]
    decode = space.decode_single if task == "single" else space.decode_multi
    return SimpleNamespace(label_space=space, classes_=NAMES, labels=lambda decided: list(decode(decided)))


def written(writer: Any, task: str, decided: np.ndarray[Any, Any], **more: Any) -> str:
    file = io.StringIO()
    writer(file, classifier(task), **more)(["1", "x\ny"], SINGLE, decided)
    return file.getvalue()


def test_lines_of_json_have_the_best_label_first_and_null_for_no_answer():
    text = written(predict._jsonl_writer, "single", np.array([0, -1]), top=None)
    first, second = [json.loads(line) for line in text.splitlines()]
    assert first == {"id": "1", "label": "good", "probabilities": {"good": 0.7, 'b,"a"d': 0.2, "ödd": 0.1}}
    assert list(first["probabilities"]) == ["good", 'b,"a"d', "ödd"]
    assert (second["id"], second["label"]) == ("x\ny", None)
    assert next(iter(second["probabilities"])) == "ödd"
    assert "ödd" in text, "readable, not escaped"


def test_top_keeps_the_best_probabilities():
    text = written(predict._jsonl_writer, "single", np.array([0, 2]), top=1)
    assert [json.loads(line)["probabilities"] for line in text.splitlines()] == [{"good": 0.7}, {"ödd": 0.8}]


def test_several_labels_are_a_list():
    decided = np.array([[1, 1, 0], [0, 0, 0]], np.uint8)
    text = written(predict._jsonl_writer, "multi", decided, top=None)
    assert [json.loads(line)["labels"] for line in text.splitlines()] == [["good", 'b,"a"d'], []]
    cells = list(csv.DictReader(io.StringIO(written(predict._csv_writer, "multi", decided))))
    assert [json.loads(row["labels"]) for row in cells] == [["good", 'b,"a"d'], []]


def test_csv_quotes_what_needs_it_and_leaves_no_answer_empty():
    text = written(predict._csv_writer, "single", np.array([1, -1]))
    first, second = csv.DictReader(io.StringIO(text))
    assert first["label"] == 'b,"a"d'
    assert (second["id"], second["label"]) == ("x\ny", "")
    assert [float(first[f"p:{name}"]) for name in NAMES] == [0.7, 0.2, 0.1]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\n\r\nb\r\n", ["a", "", "b"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        ("é\u2028x\x85y\n".encode(), ["é\u2028x\x85y"]),
        (b"caf\xe9\n", ["caf\ufffd"]),
        (b"", []),
    ],
)
def test_stdin_gives_one_text_per_line(given, texts, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    found = list(predict._stdin())
    assert [text for _, text in found] == texts
    assert [id_ for id_, _ in found] == [str(n) for n in range(1, len(texts) + 1)]


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    out = tmp_path / "p.jsonl"
    with predict._text_file(str(out)) as file:
        file.write("x")
        assert not out.exists()
    assert out.read_text() == "x"
    with pytest.raises(ZeroDivisionError), predict._text_file(str(out)) as file:
        file.write(f"half {1 / 0}")
    assert out.read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]


def test_an_impossible_out_is_refused_before_the_model_is_loaded(tmp_path):
    from sortal.errors import ConfigError

    (tmp_path / "d.csv").mkdir()
    for out in ("p.txt", "p", str(Path("nowhere") / "p.csv"), str(tmp_path / "d.csv")):
        with pytest.raises(ConfigError, match="--out"):
            predict.predict("no model is looked for", "d.csv", out=out)
