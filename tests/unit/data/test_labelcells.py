from __future__ import annotations

import csv
import io
import json

import pytest

from sortal.data.reading import read
from sortal.errors import ConfigError, DataError


def as_csv(cells, header=("text", "label")):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    writer.writerows((f"text {i}", cell) for i, cell in enumerate(cells))
    return out.getvalue()


def as_jsonl(cells):
    return "\n".join(json.dumps({"text": f"text {i}", "label": cell}) for i, cell in enumerate(cells))


def test_plain_labels_are_single_label_and_said(write, heard):
    data = read(write("a.csv", as_csv(["x", "y", "x"])), say=heard)
    assert data.labels == [("x",), ("y",), ("x",)]
    assert data.task == "single"
    assert heard.about("single-label task")


@pytest.mark.parametrize(
    "cells",
    [
        ['["a", "b"]', "[]", '["b"]'],
        ["['a', 'b']", "[]", "['b']"],
        ["('a', 'b')", "", "('b',)"],
        ["['a' 'b']", "[]", "['b']"],
        ["['a'\n 'b']", "[]", "['b']"],
        ["[a, b]", "[]", "[b]"],
        ["{'a', 'b'}", "", "{'b'}"],
        ["<a><b>", "", "<b>"],
        ["a\nb", "", "b", "a"],
    ],
)
def test_lists_written_into_csv_cells(write, heard, cells):
    data = read(write("a.csv", as_csv(cells)), say=heard)
    assert data.labels[:3] == [("a", "b"), (), ("b",)]
    assert data.task == "multi"


def test_quoted_items_keep_commas_quotes_and_brackets(write, heard):
    cells = ["[\"it's\", 'a, b']", "['x]']", "['say \"hi\"']"]
    assert read(write("a.csv", as_csv(cells)), say=heard).labels == [("it's", "a, b"), ("x]",), ('say "hi"',)]


def test_list_cells_are_never_evaluated(write, heard):
    with pytest.raises(DataError, match=r"row 3.*not a list like the other cells"):
        read(write("a.csv", as_csv(["['a']", "['b']", "__import__('os').getcwd()"])), say=heard)


def test_label_in_square_brackets_alone_is_a_plain_label(write, heard):
    data = read(write("a.csv", as_csv(["[URGENT]", "[INFO]"])), say=heard)
    assert data.labels == [("[URGENT]",), ("[INFO]",)]
    assert data.task == "single"


def test_json_lists_of_strings_and_numbers(write, heard):
    assert read(write("a.jsonl", as_jsonl([["b", "a", "b"], [], None])), say=heard).labels == [
        ("b", "a"),
        (),
        (),
    ]
    assert read(write("b.jsonl", as_jsonl([[3, 1.0], [10], []])), say=heard).labels == [
        ("3", "1"),
        ("10",),
        (),
    ]
    assert heard.about("2 rows without any label")


def test_lists_of_one_label_each_are_said_to_be_perhaps_a_single_label_task(write, heard):
    assert read(write("a.jsonl", as_jsonl([["b"], ["a"]])), say=heard).task == "multi"
    assert heard.about("each holds one label: if no text has several, say --task single")
    one_more = type(heard)()
    assert read(write("b.jsonl", as_jsonl([["b"], ["a"], ["a", "b"]])), say=one_more).task == "multi"
    assert one_more.about("--task single changes this")


def test_json_objects_of_flags(write, heard):
    cells = [{"joy": 1, "fear": 0}, {"joy": True, "fear": True}, {}]
    assert read(write("a.jsonl", as_jsonl(cells)), say=heard).labels == [("joy",), ("joy", "fear"), ()]
    with pytest.raises(DataError, match=r"row 2 \(line 2\): column 'label' holds the object"):
        read(write("b.jsonl", as_jsonl([{"joy": 1}, {"joy": 0.7}])), label="label", say=heard)


def test_indicator_vectors_are_labels_by_position(write, heard):
    data = read(write("a.jsonl", as_jsonl([[0, 1, 1], [0, 0, 0], [1, 0, 0]])), say=heard)
    assert data.labels == [("1", "2"), (), ("0",)]
    assert heard.about("0/1 vectors of length 3")


def test_one_of_two_flags_is_a_vector_too(write, heard):
    cells = [[0, 1], [1, 0], [0, 1]]
    for file in (write("a.jsonl", as_jsonl(cells)), write("a.csv", as_csv(map(str, cells)))):
        assert read(file, say=heard).labels == [("1",), ("0",), ("1",)], "and not both labels in every row"
    assert heard.about("0/1 vectors of length 2")


def test_lists_of_distinct_zero_and_one_stay_labels(write, heard):
    assert read(write("a.jsonl", as_jsonl([[0, 1], [0, 1]])), say=heard).labels == [("0", "1")] * 2
    assert read(write("b.jsonl", as_jsonl([[0, 1], [1]])), say=heard).labels == [("0", "1"), ("1",)]


def test_blank_items_of_a_list_are_no_labels(write, heard):
    assert read(write("a.jsonl", as_jsonl([["a", "", " "], ["\t"]])), say=heard).labels == [("a",), ()]


def test_nested_list_names_row_and_column(write, heard):
    with pytest.raises(
        DataError, match=r"row 2 \(line 2\): column 'label' holds .* where a label is expected"
    ):
        read(write("a.jsonl", as_jsonl([["a"], [["b"]]])), say=heard)


@pytest.mark.parametrize("delimiter", ["|", ";", ","])
def test_delimited_labels_are_inferred_from_parts_that_stand_alone_elsewhere(write, heard, delimiter):
    data = read(write("a.csv", as_csv(["joy", "anger", f"joy{delimiter} anger", "fear"])), say=heard)
    assert data.labels == [("joy",), ("anger",), ("joy", "anger"), ("fear",)]
    assert data.schema.label_delimiter == delimiter
    assert heard.about("multi-label task; pass --task single to prevent this")


def test_delimited_labels_are_inferred_from_many_combinations_of_few_parts(write, heard):
    genres = ["Drama", "Comedy", "Crime", "War", "Music"]
    cells = [f"{a}|{b}" for a in genres for b in genres if a < b]
    assert read(write("a.csv", as_csv(cells)), say=heard).task == "multi"


@pytest.mark.parametrize(
    "cells", [["Food, Drink", "Arts, Crafts", "News"], ["a;b", "c;d"], ["1,5", "2,5", "3"]]
)
def test_labels_that_merely_contain_a_delimiter_stay_single(write, heard, cells):
    data = read(write("a.csv", as_csv(cells)), say=heard)
    assert data.task == "single"
    assert data.labels == [(cell,) for cell in cells]


def test_task_single_prevents_splitting(write, heard):
    data = read(write("a.csv", as_csv(["joy", "anger", "joy,anger"])), task="single", say=heard)
    assert data.labels == [("joy",), ("anger",), ("joy,anger",)]


def test_given_delimiter_splits_even_on_spaces_and_typed_out_tabs(write, heard):
    assert read(write("a.csv", as_csv(["a b", " ", "b"])), label_delimiter=" ", say=heard).labels == [
        ("a", "b"),
        (),
        ("b",),
    ]
    assert read(write("b.csv", as_csv(["a\tb", "b"])), label_delimiter="\\t", say=heard).labels == [
        ("a", "b"),
        ("b",),
    ]
    assert read(write("c.csv", as_csv(["a // b", "b"])), label_delimiter="//", say=heard).labels == [
        ("a", "b"),
        ("b",),
    ]


def test_other_files_are_read_the_way_the_training_file_was(write, heard):
    train = read(write("train.csv", as_csv(["joy", "anger", "joy,anger"])), say=heard)
    dev = read(write("dev.csv", as_csv(["anger, joy", "joy"])), **train.schema.arguments(), say=heard)
    assert dev.labels == [("anger", "joy"), ("joy",)]
    single = read(write("t.csv", as_csv(["Food, Drink", "News"])), say=heard)
    dev = read(
        write("d.csv", as_csv(["Food, Drink", "Food", "Drink"])), **single.schema.arguments(), say=heard
    )
    assert dev.labels == [("Food, Drink",), ("Food",), ("Drink",)]
    lists = read(write("l.csv", as_csv(["['a', 'b']", "['b']"])), say=heard)
    assert read(write("m.csv", as_csv(["[]", "['a']"])), **lists.schema.arguments(), say=heard).labels == [
        (),
        ("a",),
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", 1, 1.0, "2.0"], ["1", "1", "1", "2"]),
        ([1.5, 2.0, "2"], ["1.5", "2", "2"]),
        (["01", "1"], ["01", "1"]),
        (["1.10", "1.1"], ["1.10", "1.1"]),
        ([True, False], ["true", "false"]),
        (["True", "FALSE"], ["true", "false"]),
        (["1.0", "v2"], ["1.0", "v2"]),
        (["-1", "0", "-0.0"], ["-1", "0", "0"]),
        (["ja ", "ja", "nein"], ["ja", "ja", "nein"]),
        (["Spam", "spam"], ["Spam", "spam"]),
        (["é", "e\u0301"], ["é", "e\u0301"]),
    ],
)
def test_one_spelling_per_label(write, heard, cells, expected):
    assert read(write("a.jsonl", as_jsonl(cells)), say=heard).labels == [(name,) for name in expected]


def test_stripped_spaces_and_case_twins_are_said(write, heard):
    read(write("a.csv", as_csv(["ja ", "ja", "Ja"])), say=heard)
    assert heard.about("spaces around labels removed in 1 row (for example 'ja ')")
    assert heard.about("'Ja', 'ja'")


@pytest.mark.parametrize("twin", ["cafe\u0301", "caf\u00e9\u200f", "\ufeffcaf\u00e9"])
def test_labels_that_only_look_the_same_are_said(write, heard, twin):
    data = read(write("a.csv", as_csv(["caf\u00e9", twin, "tea"])), say=heard)
    assert data.labels == [("caf\u00e9",), (twin,), ("tea",)]
    assert heard.about("labels that look the same are written in different characters")
    assert heard.about(ascii(twin))


def test_labels_that_look_different_are_not_said_to_look_alike(write, heard):
    read(write("a.csv", as_csv(["a b", "a_b", "ab", "\ufb01x", "fix"])), say=heard)
    assert not heard.about("look the same")


def test_missing_labels_in_a_single_label_task_name_the_first_five_rows(write, heard):
    with pytest.raises(DataError) as error:
        read(write("a.csv", as_csv(["x", "", " ", "y", "", "", "", ""])), say=heard)
    message = str(error.value)
    assert "row 2 (line 3): column 'label' has no label" in message
    assert "row 7 (line 8)" in message
    assert "row 8" not in message


def test_several_labels_in_a_single_label_task_name_the_row(write, heard):
    with pytest.raises(DataError, match=r"row 2 \(line 2\): column 'label' has several labels"):
        read(write("a.jsonl", as_jsonl([["a"], ["a", "b"]])), task="single", say=heard)


def test_wide_flags_in_every_spelling(write, heard):
    header = "text,b,a\n"
    rows = "t,1,0\nt,1.0,0.0\nt,true,FALSE\nt,Yes,no\nt,,\n"
    data = read(write("a.csv", header + rows), label_columns=["b", "a"], say=heard)
    assert data.labels == [("b",), ("b",), ("b",), ("b",), ()]
    assert data.label_names == ("b", "a")
    assert data.task == "multi"


def test_wide_flag_that_is_no_flag_names_row_and_column(write, heard):
    with pytest.raises(DataError, match=r"row 2 \(line 3\): column 'a' holds '0.5'"):
        read(write("a.csv", "text,b,a\nt,1,0\nt,0,0.5\n"), label_columns=["b", "a"], say=heard)


@pytest.mark.parametrize(
    "arguments",
    [
        {"label_columns": ["a"], "label": "b"},
        {"label_columns": ["a"], "task": "single"},
        {"label_delimiter": ",", "task": "single"},
        {"label_columns": ["a", "a"]},
    ],
)
def test_contradicting_arguments_are_refused(write, heard, arguments):
    with pytest.raises(ConfigError):
        read(write("a.csv", "text,a,b\nt,1,0\n"), say=heard, **arguments)


def test_word_for_nothing_is_kept_as_a_label_and_said(write, heard):
    assert read(write("a.csv", as_csv(["x", "NULL", "y"])), say=heard).labels == [("x",), ("NULL",), ("y",)]
    assert heard.about("'NULL' is read as a label")


def test_text_taken_for_labels_is_warned_of(write, heard):
    read(write("a.csv", as_csv([f"unique {i}" for i in range(60)])), say=heard)
    assert heard.about("is it the label column?")
