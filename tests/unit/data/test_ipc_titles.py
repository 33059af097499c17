"""Titles of IPC symbols: found by any form of the symbol, without references, and short enough to be a label's wording."""

from __future__ import annotations

import pytest

from sortal.data.ipc_titles import read_titles, short_title
from sortal.errors import DataError


@pytest.mark.parametrize(
    ("title", "short"),
    [
        ("HARVESTING; MOWING", "harvesting; mowing"),
        ("THRESHING (combines A01D0041000000); BALING", "threshing; baling"),
        ("PANS (lids (round) A47J), KETTLES", "pans, kettles"),
        ("KNOTS [2006.01]", "knots"),
        ("Time-pieces (never closed; more", "Time-pieces"),
        ("STIRRING, e.g. WITH SPOONS", "stirring, e.g. with spoons"),
        ("Use of DNA", "Use of DNA"),
        ("JOINING (a); (b); GLUING.", "joining; gluing"),
        ("(all of it)", ""),
    ],
)
def test_references_go_and_capitals_become_small(title, short):
    assert short_title(title) == short


def test_titles_are_found_by_any_form(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "Symbol,Title\nd01d,SPINNING\nD01D 1/00,FILAMENTS (melt D01D0005)\n", encoding="utf-8-sig"
    )
    titles = read_titles(path)
    assert titles.get("D01D") == "spinning"
    assert titles.get("D01D001") == titles.get("D01D0001000000") == "filaments"
    assert titles.get("D01F") == ""
    with pytest.raises(DataError, match="no IPC symbol"):
        titles.get("spinning")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("name,title\nD01D,x\n", "lacks a column title, or one of symbol"),
        ("symbol,name\nD01D,x\n", "lacks a column title"),
        ("symbol,title\nD01D,x\nspinning,y\n", r"row 2 \(line 3\): 'spinning' is no IPC symbol"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, why):
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=why):
        read_titles(path)


def test_no_such_table(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_titles(tmp_path / "none.csv")


def test_a_real_table_of_subclasses_gives_wordings(data_root):
    path = data_root / "us_patents_ipc" / "ipc_subclass_titles.csv"
    if not path.exists():
        pytest.skip("the table of titles is not on this machine")
    titles = read_titles(path)
    assert titles.get("A01D") == "harvesting; mowing"
    assert len(titles.by_symbol) > 600
    assert all(title and not set(title) & set("()[]") for title in titles.by_symbol.values())
