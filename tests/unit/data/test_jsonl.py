from __future__ import annotations

import json

import pytest

from sortal.data.jsonl import JsonLinesFile, open_json
from sortal.errors import DataError


def records(source):
    return [
        {name: values[i] for name, values in batch.columns.items()}
        for batch in source.batches()
        for i in range(batch.size)
    ]


def test_bad_lines_are_named_with_their_line_numbers(write, heard):
    path = write("a.jsonl", '{"text": "a"}\n\n{"text": \nnot json\n[1, 2]\n')
    with pytest.raises(DataError) as error:
        JsonLinesFile(path, "a.jsonl", heard)
    message = str(error.value)
    assert "row 2 (line 3): is not JSON" in message
    assert "row 3 (line 4)" in message
    assert "row 4 (line 5): is not a JSON object but [1, 2]" in message


def test_raw_nul_is_refused_with_its_row_and_an_escaped_one_is_text(write, heard):
    with pytest.raises(DataError, match=r"row 1 \(line 1\).*NUL"):
        JsonLinesFile(write("a.jsonl", b'{"text": "a\0b"}\n'), "a.jsonl", heard)
    assert records(JsonLinesFile(write("b.jsonl", '{"text": "a\\u0000b"}\n'), "b", heard)) == [
        {"text": "a\0b"}
    ]


def test_a_key_that_a_row_has_twice_is_refused_and_not_one_value_of_it_lost(write, heard):
    lines = ['{"text": "a", "label": "x"}', '{"text": "b", "label": "x", "text": "c"}']
    with pytest.raises(DataError, match=r"row 2 \(line 2\): has the key 'text' twice"):
        JsonLinesFile(write("a.jsonl", "\n".join(lines)), "a.jsonl", heard)
    with pytest.raises(DataError, match=r"row 2 \(line 2\): has the key 'text' twice"):
        open_json(write("a.json", "[" + ",\n".join(lines) + "]"), "a.json", heard)
    inside = '{"text": "a", "about": {"k": 1, "k": 2}}'  # nobody reads it
    assert records(JsonLinesFile(write("b.jsonl", inside), "b", heard))[0]["text"] == "a"


@pytest.mark.parametrize("space", ["", "\n", " " * 100_000])
def test_rows_behind_the_end_of_an_array_are_not_lost_in_silence(write, heard, space):
    array = '[{"text": "a"},\n{"text": "b"}]'
    with pytest.raises(DataError, match=r"line 2: something follows the end of the array after row 2"):
        open_json(write("a.json", array + space + array), "a.json", heard)
    assert len(records(open_json(write("b.json", array + space + "\n"), "b.json", heard))) == 2


def test_keys_that_appear_late_are_found(write, heard):
    lines = [{"text": "a"}] * 1_500 + [{"text": "b", "label": "x"}]
    source = JsonLinesFile(write("a.jsonl", "\n".join(map(json.dumps, lines))), "a", heard)
    assert source.columns == ("text",)
    assert source.all_columns() == ("text", "label")
    assert [batch.columns["label"][-1] for batch in source.batches(["label"])] == [None, "x"]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_array_is_streamed_with_exact_lines(write, heard, indent):
    rows = [{"text": f"t{i} é" * (i % 50), "label": [i]} for i in range(3_000)]
    source = open_json(write("a.json", json.dumps(rows, indent=indent)), "a.json", heard)
    assert records(source) == rows


def test_json_array_with_a_huge_cell(write, heard):
    rows = [{"text": "x" * 3_000_000, "label": "a"}, {"text": "y", "label": "b"}]
    assert records(open_json(write("a.json", json.dumps(rows)), "a.json", heard)) == rows


def test_cut_json_array_is_refused_with_its_row(write, heard):
    with pytest.raises(DataError, match="row 2 is not valid JSON or the array is cut off"):
        list(open_json(write("a.json", '[{"text": "a"},\n{"text": "b'), "a.json", heard).batches())


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "a", "label": 1}\n{"text": "b", "label": 2}\n',
        '{"version": 1, "data": [{"text": "a", "label": 1}, {"text": "b", "label": 2}]}',
        '{"text": ["a", "b"], "label": [1, 2]}',
        '{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 2}}',
        '{\n "rows": [\n {"text": "a", "label": 1}, {"text": "b", "label": 2}]}',
    ],
)
def test_json_files_of_other_shapes(write, heard, content):
    assert records(open_json(write("a.json", content), "a.json", heard)) == [
        {"text": "a", "label": 1},
        {"text": "b", "label": 2},
    ]
