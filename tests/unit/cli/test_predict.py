"""What ``sortal predict`` reads on stdin, and what it refuses before a model is loaded."""

from __future__ import annotations

import io
import sys

import pytest

from sortal.cli import predict
from sortal.errors import ConfigError


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


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"out": "p.txt"}, "--out p.txt: unknown format '.txt'"),
        ({"out": "a.file"}, "--out a.file: unknown format"),
        ({"out": "nowhere/p.csv"}, "nowhere does not exist"),
        ({"out": "d.csv"}, "--out d.csv is a folder"),
        ({"out": "p.csv", "format": "jsonl"}, "contradicts --format jsonl"),
        ({"out": "p", "format": "xlsx"}, "--format xlsx: unknown format"),
        ({"format": "csv"}, "--format csv needs --out"),
        ({"engine": "spark"}, "--engine spark: no such engine"),
        ({"engine": "ray"}, "--engine ray needs --out"),
        ({"workers": 2, "out": "p.csv"}, "are for --engine ray"),
        ({"address": "auto", "out": "p.csv"}, "are for --engine ray"),
    ],
)
def test_an_impossible_command_is_refused_before_the_model_is_loaded(
    settings, sentence, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").mkdir()
    (tmp_path / "a.file").touch()
    with pytest.raises(ConfigError) as refused:
        predict.predict("no model is looked for", "x.csv", **settings)
    assert sentence in str(refused.value)


def test_bytes_on_stdin_that_are_no_utf_8_are_said_once(monkeypatch, capsys):
    given = b"fine\n" + "caf\u00e9\nth\u00e9\n".encode("cp1252")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert [text for _, text in predict._stdin()] == ["fine", "caf\ufffd", "th\ufffd"]
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "line 2 of stdin is not UTF-8" in said


@pytest.mark.parametrize("words", [["-", "a.csv"], ["-", "-"]])
def test_stdin_stands_alone(words):
    with pytest.raises(ConfigError, match="cannot be combined"):
        predict.predict("no model is looked for", words)
