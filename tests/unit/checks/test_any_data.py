"""Whatever the data is like: no crash, findings that are about rows that exist, and a copy that loses nothing unsaid."""

from __future__ import annotations

import csv
import json
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.checks.check import check
from sortal.data.reading import read

WORDS = [
    "card",
    "Card",
    "arrival",
    "café",
    "cafÃ©",
    "привет",
    "日本",
    "😀",
    "",
    " ",
    "\u200b",
    "ok",
    "x" * 300,
    "\ufffd",
    "1",
    "-1",
    '"',
    "a,b",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=30
)
LABELS = st.sampled_from(["a", "b", "B", "politics", "polotics", "c d", "c_d", "7"])


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@settings(max_examples=25, deadline=None)
@given(
    train=st.lists(st.tuples(TEXTS, LABELS), min_size=1, max_size=70),
    test=st.lists(st.tuples(TEXTS, LABELS), max_size=8),
)
def test_any_rows(train, test):
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = Path(name)
        more = {"test": write(folder / "test.csv", test)} if test else {}
        data, out = write(folder / "train.csv", train), folder / "clean.csv"
        report = check(
            data,
            text="text",
            label="label",
            task="single",
            max_length=3,
            fix=out,
            say=lambda line: None,
            **more,
        )
        json.dumps(report.to_json())
        for finding in report.findings:
            assert finding.count > 0
            assert len(finding.rows)
            assert finding.rows.min() >= 0
            assert finding.rows.max() < len(report.context.parts[finding.part])
            assert len(set(finding.rows.tolist())) == len(finding.rows)
            assert all(finding.note(i) is not None for i in range(len(finding.rows)))
        with out.open(encoding="utf-8", newline="") as file:
            kept = sum(1 for _ in csv.reader(file)) - 1
        assert kept == report.cleaned.rows == len(train) - report.cleaned.removed
        if kept:
            again = check(
                out, text="text", label="label", task="single", max_length=3, say=lambda line: None, **more
            )
            # Labels that a repair makes equal may make copies of rows that were none.
            assert {finding.check for finding in again.findings if finding.remedies} <= {"duplicates"}


@pytest.mark.parametrize("rows", [[("", "a")], [("", "a"), ("", "b")] * 40, [("!", "a"), ("?", "b")] * 40])
def test_nothing_to_read(tmp_path, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(write(tmp_path / "a.csv", rows), text="text", label="label", say=lambda line: None)


def test_a_copy_may_be_empty(tmp_path):
    data = write(tmp_path / "a.csv", [("", "a"), (" ", "b")])
    done = check(data, text="text", label="label", fix=tmp_path / "b.csv", say=lambda line: None).cleaned
    assert (done.rows, done.removed) == (0, 2)
    assert (tmp_path / "b.csv").read_text() == "text,label\n"
    assert len(read(data, text="text", label="label", say=lambda line: None)) == 2
