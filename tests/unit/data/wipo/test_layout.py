"""Folders and names of the collection."""

from __future__ import annotations

from datetime import date

import pytest

from sortal.data.wipo.layout import RecordFile, find_records
from sortal.errors import DataError


def at(path: str) -> RecordFile:
    return RecordFile(path, 0, 0)


@pytest.mark.parametrize(
    ("path", "symbol"),
    [
        ("train/D/01/D/001/x.xml", "D01D 1/00"),
        ("train/D/01/D/1/x.xml", "D01D 1/00"),
        ("wipo-alpha/train/d/01/d/001/more/x.xml", "D01D 1/00"),
        ("train/extra/D/01/D/x.xml", "D01D"),
        ("train/D/01/D/other/x.xml", "D01D"),
        ("train/D/01/D/000/x.xml", "D01D"),
        ("train/A/B/01/C/005/x.xml", "B01C 5/00"),
        ("train/D/01/x.xml", None),
        ("train/D/00/D/x.xml", None),
        ("x.xml", None),
    ],
)
def test_the_symbol_that_folders_spell(path, symbol):
    found = at(path).symbol
    assert (found and found.written) == symbol


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("EP99_31121999.xml", date(1999, 12, 31)),
        ("EP_99_29022000.xml", date(2000, 2, 29)),
        ("EP99_31021999.xml", None),
        ("EP99.xml", None),
        ("EP99_1999.xml", None),
    ],
)
def test_the_date_in_the_name(name, day):
    assert at(f"train/{name}").date == day


def test_the_part_is_the_folders_or_else_the_roots():
    assert at("c/Test/D/x.xml").part("c") == "test"
    assert at("training/x.xml").part("test") == "train"
    assert at("D/x.xml").part("TEST") == "test"
    assert at("D/x.xml").part("c") == "train"


def test_files_are_found_however_deep_sorted_and_without_links(tmp_path):
    (tmp_path / "c" / "b" / "deep").mkdir(parents=True)
    for name in ("b/deep/2.XML", "a.xml", "b/1.xml", "b/readme.txt"):
        (tmp_path / "c" / name).write_text("x")
    (tmp_path / "outside.xml").write_text("x")
    (tmp_path / "c" / "link.xml").symlink_to(tmp_path / "outside.xml")
    (tmp_path / "c" / "loop").symlink_to(tmp_path / "c")
    found = find_records(tmp_path / "c")
    assert [file.path for file in found] == ["a.xml", "b/1.xml", "b/deep/2.XML"]
    assert [file.size for file in found] == [1, 1, 1]


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.xml files"):
        find_records(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        find_records(tmp_path / "none")
