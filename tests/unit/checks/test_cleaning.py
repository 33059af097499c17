from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortal.checks.check import check
from sortal.checks.labelcells import renamed
from sortal.data.reading import read
from sortal.errors import ConfigError, DataError, ResourceError

ROWS = [
    ("1", "good one", "joy", "x"),
    ("2", "Good  one", "joy", "y"),
    ("3", "", "joy", "z"),
    ("4", "the cafÃ© here", "Joy", ""),
    ("5", "a leaked text", "anger", 'quote " and, comma'),
    ("6", "another text", "anger", "line\nbreak"),
    ("7", "another text", "joy", "conflict"),
]
HEADER = ("number", "text", "label", "extra")


def put(path: Path, rows=ROWS, header=HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def log_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fixed(tmp_path: Path, out: str = "clean.csv", **more):
    data = put(tmp_path / "data.csv")
    test = put(tmp_path / "test.csv", [("1", "A leaked  text", "anger", "")])
    return check(
        data, test=test, label="label", text="text", fix=tmp_path / out, say=lambda line: None, **more
    )


def test_the_copy_keeps_all_columns_and_everything_that_needs_a_person(tmp_path):
    before = (put(tmp_path / "data.csv")).read_bytes()
    done = fixed(tmp_path).cleaned
    with (tmp_path / "clean.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        list(HEADER),
        ["1", "good one", "joy", "x"],
        ["4", "the café here", "joy", ""],
        ["6", "another text", "anger", "line\nbreak"],
        ["7", "another text", "joy", "conflict"],
    ]
    assert (done.rows, done.removed, done.changed) == (4, 3, 1)
    assert (tmp_path / "data.csv").read_bytes() == before


def test_every_row_that_was_touched_or_left_is_in_the_log(tmp_path):
    done = fixed(tmp_path).cleaned
    lines = log_of(Path(done.log))
    touched = {(line["row"], line["check"], line["action"]) for line in lines if line["action"] != "left"}
    assert touched == {
        ("2", "duplicates", "removed"),
        ("3", "text-length", "removed"),
        ("4", "encoding", "text repaired"),
        ("4", "label-spelling", "label renamed"),
        ("5", "leakage", "removed"),
    }
    left = [line for line in lines if line["action"] == "left"]
    assert {(line["row"], line["check"]) for line in left} >= {("6", "conflicts"), ("7", "conflicts")}
    assert len(left) == done.left
    reason = next(line["detail"] for line in lines if line["row"] == "2" and line["action"] == "removed")
    assert reason == f"the text and labels of row 1 of {tmp_path / 'data.csv'}"


def test_a_second_check_of_the_copy_finds_nothing_to_repair(tmp_path):
    done = fixed(tmp_path).cleaned
    again = check(done.out, test=tmp_path / "test.csv", text="text", label="label", say=lambda line: None)
    assert [finding.check for finding in again.findings if finding.remedies] == []


def test_only_some_checks_repair_only_what_they_find(tmp_path):
    done = fixed(tmp_path, only=["duplicates"]).cleaned
    assert (done.rows, done.removed, done.changed, done.left) == (6, 1, 0, 0)


@pytest.mark.parametrize("name", ["clean.csv", "clean.tsv", "clean.jsonl", "clean.parquet"])
def test_every_format_is_read_again_alike(tmp_path, name):
    fixed(tmp_path, name)
    again = read(tmp_path / name, text="text", label="label", say=lambda line: None)
    assert again.texts == ["good one", "the café here", "another text", "another text"]
    assert again.labels == [("joy",), ("joy",), ("anger",), ("joy",)]


def test_typed_columns_and_lists_survive_in_parquet_and_jsonl(tmp_path):
    table = pa.table(
        {
            "text": ["a text", "A text", "other", "more"],
            "labels": [["Joy", "fear"], ["Joy", "fear"], ["joy"], ["joy", "Joy"]],
            "number": [1, 2, None, 4],
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    for name in ("clean.parquet", "clean.jsonl"):
        check(tmp_path / "data.parquet", fix=tmp_path / name, say=lambda line: None)
        again = read(tmp_path / name, say=lambda line: None)
        assert again.labels == [("Joy", "fear"), ("Joy",), ("Joy",)]
    assert pq.read_table(tmp_path / "clean.parquet")["number"].to_pylist() == [1, None, 4]
    lines = (tmp_path / "clean.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"text": "other", "labels": ["Joy"]}


@pytest.mark.parametrize("numbers", [5, 1_500])  # in one batch of rows, or in two
def test_a_column_of_several_types_is_no_parquet_column_and_that_is_said(tmp_path, numbers):
    kinds = [1] * numbers + ["one"] * 5
    lines = [json.dumps({"text": f"text {i}", "label": kind}) for i, kind in enumerate(kinds)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"one type.*label.*\n→ write \.jsonl or \.csv"):
        check(
            tmp_path / "data.jsonl",
            only="duplicates",
            fix=tmp_path / "clean.parquet",
            say=lambda line: None,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_one_label_per_line_of_fasttext_stays_one_label(tmp_path):
    (tmp_path / "d.txt").write_text(
        "__label__a hello there\n__label__b good morning\n__label__a hello there\n"
    )
    check(tmp_path / "d.txt", fix=tmp_path / "c.csv", say=lambda line: None)
    assert (tmp_path / "c.csv").read_text() == "labels,text\na,hello there\nb,good morning\n"


def test_several_text_columns_are_repaired_each(tmp_path):
    rows = [("cafÃ©", "dÃ©jÃ\xa0 vu", "a"), ("fine", "naïve", "b")] * 2
    put(tmp_path / "d.csv", rows, ("title", "body", "label"))
    check(
        tmp_path / "d.csv",
        text=["title", "body"],
        fix=tmp_path / "c.csv",
        only=["encoding"],
        say=lambda line: None,
    )
    again = read(tmp_path / "c.csv", text=["title", "body"], say=lambda line: None)
    assert again.texts[0] == "café\ndéjà vu"
    assert again.texts[1] == "fine\nnaïve"


@pytest.mark.parametrize(
    ("cell", "delimiter", "expected"),
    [
        ("Joy", "", "joy"),
        (" Joy ", "", "joy"),
        ("anger", "", "anger"),
        ("Joy;anger", ";", "joy;anger"),
        ("Joy; joy;anger", ";", "joy;anger"),
        (" anger ; fear", ";", " anger ; fear"),
        (["Joy", "anger", "joy"], None, ["joy", "anger"]),
        ("['Joy', 'anger']", None, '["joy", "anger"]'),
        ("[Joy, anger]", None, '["joy", "anger"]'),
        (None, "", None),
        (3, "", 3),
    ],
)
def test_labels_are_renamed_inside_any_kind_of_cell(cell, delimiter, expected):
    assert renamed(cell, {"Joy": "joy"}, delimiter) == expected


def test_wide_columns_are_left_as_they_are(tmp_path):
    put(tmp_path / "w.csv", [("a", 1, 0), ("b", 0, 1), ("c", 1, 0)], ("text", "joy", "Joy"))
    report = check(
        tmp_path / "w.csv",
        label_columns=["joy", "Joy"],
        fix=tmp_path / "c.csv",
        only=["label-spelling"],
        say=lambda line: None,
    )
    assert (report.findings[0].check, report.cleaned.changed) == ("label-spelling", 0)
    assert (tmp_path / "c.csv").read_text() == "text,joy,Joy\na,1,0\nb,0,1\nc,1,0\n"
    assert report.cleaned.left == 1


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("clean.xlsx", "unknown format"),
        ("nowhere/clean.csv", "does not exist"),
        ("data.csv", "would overwrite"),
        ("folder.csv", "is a folder"),
        ("test.csv", "would overwrite"),
        ("link.csv", "would overwrite"),
    ],
)
def test_an_impossible_place_is_refused_before_anything_is_read(tmp_path, out, message):
    (tmp_path / "folder.csv").mkdir()
    put(tmp_path / "data.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "data.csv")
    before = (tmp_path / "data.csv").read_bytes()
    with pytest.raises(ConfigError, match=message):
        fixed(tmp_path, out)
    assert (tmp_path / "data.csv").read_bytes() == before


def test_the_log_never_takes_the_place_of_the_data(tmp_path):
    data = put(tmp_path / "clean.log.csv")
    with pytest.raises(ConfigError, match="would overwrite"):
        check(data, text="text", label="label", fix=tmp_path / "clean.csv", say=lambda line: None)


def test_a_failure_while_writing_leaves_an_earlier_copy_as_it_was(tmp_path, monkeypatch):
    from sortal.checks import tablefiles

    (tmp_path / "clean.csv").write_text("earlier")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tablefiles, "_written", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        fixed(tmp_path)
    assert (tmp_path / "clean.csv").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.csv", "data.csv", "test.csv"]
