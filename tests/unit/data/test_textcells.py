from __future__ import annotations

import json

import pytest

from sortal.data.reading import read
from sortal.data.records import only_warnings
from sortal.data.textcells import parse_template
from sortal.errors import ConfigError, DataError


def jsonl(*rows):
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def test_several_columns_are_joined_by_line_and_empty_ones_left_out(write, heard):
    path = write(
        "a.jsonl",
        jsonl(
            {"t": "T", "b": "B", "label": "x"},
            {"t": None, "b": "only", "label": "y"},
            {"t": " ", "label": "x"},
        ),
    )
    assert read(path, text=["t", "b"], say=heard).texts == ["T\nB", "only", ""]


def test_blank_cells_of_a_csv_are_rows_without_text_as_nulls_are_and_said_of_every_file(write, heard):
    path = write("a.csv", 'text,more,label\n,,x\n"  ",\t,y\nsome,,x\n,words,y\n')
    read(path, text=["text", "more"], say=heard)
    assert heard.about("a.csv: 2 rows without text")
    heard.clear()
    read(path, text=["text"], say=only_warnings(heard))
    assert heard.about("warning:")
    assert heard.about("a.csv: 3 rows without text")


def test_template_joins_columns_in_its_own_words(write, heard):
    path = write("a.jsonl", jsonl({"t": "T", "b": "B", "label": "x"}, {"t": "U", "label": "y"}))
    data = read(path, text_template="{{title}}: {t}\\n{b}", say=heard)
    assert data.texts == ["{title}: T\nB", "{title}: U\n"]
    assert data.schema.text == ("t", "b")


@pytest.mark.parametrize("template", ["no columns", "{", "{t!r}", "{t:>5}", "{}"])
def test_templates_that_are_not_plain_columns_are_refused(template):
    with pytest.raises(ConfigError, match="text_template"):
        parse_template(template)


def test_template_attributes_are_not_evaluated(write, heard):
    with pytest.raises(DataError, match=r"no column 't.__class__'"):
        read(write("a.csv", "t,label\na,x\n"), text_template="{t.__class__}", say=heard)


def test_template_column_outside_text_is_refused(write, heard):
    with pytest.raises(ConfigError, match=r"'titel'.*did you mean 'title'"):
        read(
            write("a.csv", "title,body,label\na,b,x\n"),
            text=["title", "body"],
            text_template="{titel}",
            say=heard,
        )


def test_missing_text_is_kept_as_empty_and_counted(write, heard):
    path = write(
        "a.jsonl",
        '{"text": null, "label": "x"}\n{"text": NaN, "label": "y"}\n{"label": "x"}\n{"text": "t", "label": "y"}\n',
    )
    assert read(path, say=heard).texts == ["", "", "", "t"]
    assert heard.about("3 rows without text")


def test_lone_surrogates_are_replaced_and_said_with_the_row(write, heard):
    path = write(
        "a.jsonl",
        '{"text": "ok \\ud83d\\ude00", "label": "x"}\n{"text": "bad \\ud800!", "label": "y\\udc00"}\n',
    )
    data = read(path, say=heard)
    assert data.texts == ["ok 😀", "bad \ufffd!"]
    assert data.labels == [("x",), ("y\ufffd",)]
    assert heard.about("U+FFFD in 1 row (first: row 2)")


def test_odd_text_is_kept_exactly(write, heard):
    odd = [
        "👩‍👩‍👧",
        "a\u200bb\ufeff",
        "שלום עולם",
        "e\u0301",
        "  two  spaces ",
        "\u2028",
        "tab\tnew\nline\r\n",
    ]
    path = write("a.jsonl", jsonl(*({"text": text, "label": "xy"[i % 2]} for i, text in enumerate(odd))))
    assert read(path, say=heard).texts == odd


def test_numbers_are_text_and_objects_are_refused_with_the_row(write, heard):
    path = write("a.jsonl", jsonl({"text": 5, "label": "x"}, {"text": True, "label": "y"}))
    assert read(path, text=["text"], label="label", say=heard).texts == ["5", "true"]
    path = write("b.jsonl", jsonl({"text": "a", "label": "x"}, {"text": {"en": "b"}, "label": "y"}))
    with pytest.raises(DataError, match=r"row 2 \(line 2\), column 'text': the text is a dict"):
        read(path, text=["text"], label="label", say=heard)
