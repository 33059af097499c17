"""One XML file: text as it was meant, whatever is missing, and nothing read from outside the file."""

from __future__ import annotations

import pytest
from benchmarks.wipo_records import BROKEN, record

from sortal.data.wipo import record as reading
from sortal.data.wipo.record import RecordError, Text, parse_record

DECLARED = "<?xml version='1.0' encoding='{}'?>"


def written(body: str, encoding: str = "iso-8859-1", codec: str | None = None) -> bytes:
    return f"{DECLARED.format(encoding)}<record an='1'>{body}</record>".encode(codec or encoding)


def test_a_whole_record():
    found = parse_record(
        record(
            an="EP99/1",
            mc="D01D00106",
            ics=("D01F00602", "", "B29C04700"),
            title="Spun\n  fibre",
            abstract="",
            claims="1. One.\n\n 2. Two.",
        ).encode()
    )
    assert found.attributes == {"cy": "WO", "an": "EP99/1", "pn": "WOEP99/1", "dnum": "EP99/1", "kind": "A1"}
    assert found.main == "D01D00106"
    assert found.others == ["D01F00602", "B29C04700"]
    assert found.texts == {
        "title": [Text("Spun fibre", "en")],
        "claims": [Text("1. One.\n2. Two.", "en")],
    }


def test_a_record_of_nothing_is_one():
    assert parse_record(b"<record/>").texts == {}
    assert parse_record(b"<RECORD><IPCS MC='D01D00106'/></RECORD>").main == "D01D00106"


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (written("<tis><ti>Café, 30 °C</ti></tis>"), "Café, 30 °C"),
        (written("<tis><ti>Café €</ti></tis>", "utf-8"), "Café €"),
        (written("<tis><ti>“Café” – €</ti></tis>", "iso-8859-1", "cp1252"), "“Café” – €"),
        (written("<tis><ti>“Café”</ti></tis>", "windows-1252"), "“Café”"),
        ("\ufeff<record><tis><ti>Café</ti></tis></record>".encode(), "Café"),
        ("<record><tis><ti>Café</ti></tis></record>".encode(), "Café"),
        ("<record><tis><ti>Café</ti></tis></record>".encode("iso-8859-1"), "Café"),
        ("<record><tis><ti>Café</ti></tis></record>".encode("utf-16"), "Café"),
        (written("<tis><ti>a &amp; b &#8364; &lt;c&gt;</ti></tis>"), "a & b € <c>"),
        (written("<tis><ti><![CDATA[a < b]]><!-- not this --></ti></tis>"), "a < b"),
        (written("<tis><ti>H<sub>2</sub>O and <b>so</b> on</ti></tis>"), "H2O and so on"),
        (written("<tis><ti><p>one</p><p>two</p>three<br/>four</ti></tis>"), "one two three four"),
    ],
)
def test_text_is_read_as_it_was_meant(data, title):
    assert parse_record(data).texts["title"][0].text == title


def test_entities_of_an_outside_document_type_are_those_of_html():
    body = "<record><tis><ti>&eacute;t&eacute; &alpha;&nosuch;</ti></tis></record>"
    data = f'{DECLARED.format("iso-8859-1")}<!DOCTYPE record SYSTEM "no/such.dtd">{body}'.encode()
    assert parse_record(data).texts["title"][0].text == "été α&nosuch;"


def test_languages_are_inherited_and_without_a_region():
    data = written(
        "<tis xml:lang='FR'><ti>un</ti><ti xml:lang='en-GB'>one</ti></tis><abs><ab>none</ab></abs>"
    )
    found = parse_record(data).texts
    assert found["title"] == [Text("un", "fr"), Text("one", "en")]
    assert found["abstract"] == [Text("none", "")]


def test_only_the_nodes_of_a_field_are_its_text():
    data = written(
        "<ti>stray</ti><tis>stray<ti>title</ti><x>stray</x></tis><pas><pa>someone</pa></pas><ipc ic='X'/>"
    )
    found = parse_record(data)
    assert found.texts == {"title": [Text("title", "")]}
    assert found.others == []


UNREADABLE = {
    name: case for name, case in BROKEN.items() if case[1] not in ("no main code", "invalid main code")
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_refused_with_its_kind(name):
    data, kind = UNREADABLE[name]
    with pytest.raises(RecordError) as refused:
        parse_record(data)
    assert refused.value.kind == kind


def test_a_malformed_file_says_where():
    with pytest.raises(RecordError, match="line 2, column 8"):
        parse_record(b"<record>\n  <x></y></record>")


def test_a_file_past_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    with pytest.raises(RecordError, match="101 bytes are more than 100"):
        parse_record(b"<record/>".ljust(101))
    assert parse_record(b"<record/>".ljust(100)).main == ""


def test_deep_nesting_is_read_without_recursion():
    deep = 100_000
    data = b"<record><tis><ti>" + b"<b>" * deep + b"deep" + b"</b>" * deep + b"</ti></tis></record>"
    assert parse_record(data).texts["title"] == [Text("deep", "")]
