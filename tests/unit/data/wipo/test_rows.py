"""From a record to a row: labels of every level, one language, and notes of what contradicts itself."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from sortal.data.wipo.layout import RecordFile
from sortal.data.wipo.record import Record, RecordError, Text
from sortal.data.wipo.rows import SCHEMA, make_row

FILE = RecordFile("train/D/01/D/001/EP99_31121999.xml", 9, 0)


def row(file=FILE, languages=("en",), **values):
    return make_row(Record(**{"main": "D01D00106", **values}), file, languages)


def test_labels_of_all_levels_main_code_first_and_each_once():
    found = row(others=["D01D 5/08", "d01f00602", "D01D0001060000", "B29C04700"]).values
    assert (found["section"], found["class"], found["subclass"]) == ("D", "D01", "D01D")
    assert (found["main_group"], found["main_code"]) == ("D01D001", "D01D00106")
    assert found["all_codes"] == ["D01D00106", "D01D00508", "D01F00602", "B29C04700"]
    assert found["all_main_groups"] == ["D01D001", "D01D005", "D01F006", "B29C047"]
    assert found["all_subclasses"] == ["D01D", "D01F", "B29C"]
    assert found["all_classes"] == ["D01", "B29"]
    assert found["all_sections"] == ["D", "B"]


def test_every_row_fits_the_schema():
    full = row(
        attributes={"an": "EP99", "cy": "WO", "pn": "WO1", "kind": "A1"}, texts={"title": [Text("t", "en")]}
    )
    table = pa.Table.from_pylist([full.values, row().values], schema=SCHEMA)
    assert table.column_names == SCHEMA.names == [*dict.fromkeys(SCHEMA.names)]
    assert set(full.values) == set(SCHEMA.names)
    assert table["date"].to_pylist() == [date(1999, 12, 31)] * 2
    assert table["id"].to_pylist() == ["EP99", "EP99_31121999"]


TWO = [Text("un", "fr"), Text("one", "en")]


@pytest.mark.parametrize(
    ("languages", "text", "language"),
    [
        (("en",), "one", "en"),
        (("fr", "en"), "un", "fr"),
        (("de", "en"), "one", "en"),
        (("de",), "un", "fr"),
    ],
)
def test_the_first_preferred_language_wins(languages, text, language):
    found = row(languages=languages, texts={"abstract": TWO})
    assert found.values["abstract"] == text
    assert found.values["language"] == language
    assert (f"nothing in {languages[0]}" in found.counted) == (languages[0] == "de")


def test_fields_in_several_languages_are_counted_and_the_abstract_says_which():
    found = row(texts={"title": [Text("one", "en")], "abstract": [Text("un", "fr")]})
    assert found.values["language"] == "fr"
    assert "fields in several languages" in found.counted


def test_what_is_missing_is_counted():
    found = row(RecordFile("D/x.xml", 9, 0))
    assert set(found.counted) == {
        "no title", "no abstract", "no claims", "no description", "no text at all",
        "no secondary code", "no date in the file name", "folders spell no symbol",
    }  # fmt: skip
    assert found.values["language"] is None
    assert found.notes == []


def test_a_folder_that_disagrees_is_noted_and_the_code_counts():
    found = row(RecordFile("train/D/01/D/005/x_31121999.xml", 9, 0))
    ((kind, what),) = found.notes
    assert kind == "folder disagrees"
    assert what == "it lies under D01D005, its main code is D01D 1/06; the code counts"
    assert found.values["main_group"] == "D01D001"
    assert row(RecordFile("train/D/01/D/x.xml", 9, 0)).notes == []
    assert row(RecordFile("train/D/02/D/x.xml", 9, 0)).notes[0][0] == "folder disagrees"


def test_an_invalid_secondary_code_is_left_out_and_noted():
    found = row(others=["nonsense", "D01F", "B29C04700"])
    assert found.values["all_codes"] == ["D01D00106", "B29C04700"]
    assert [kind for kind, _ in found.notes] == ["invalid secondary code"] * 2
    assert "'D01F' ends above the main group" in found.notes[1][1]


@pytest.mark.parametrize(
    ("main", "kind"), [("", "no main code"), ("D01D", "invalid main code"), ("9", "invalid main code")]
)
def test_a_record_without_a_usable_main_code_is_refused(main, kind):
    with pytest.raises(RecordError) as refused:
        row(main=main)
    assert refused.value.kind == kind
