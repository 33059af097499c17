from __future__ import annotations

import pytest

from sortal.data.reading import read
from sortal.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("text,label", ("text",), "label"),
        ("Sentence,Sentiment", ("Sentence",), "Sentiment"),
        ("id,title,body,category", ("title", "body"), "category"),
        ("Unnamed: 0,news_title,label", ("news_title",), "label"),
        (",utterance,intent", ("utterance",), "intent"),
        ("text,label,label_text", ("text",), "label_text"),
        ("review_id,review_text,stars", ("review_text",), "stars"),
        ("tweet,outcome", ("tweet",), "outcome"),
        ("words,class", ("words",), "class"),
    ],
)
def test_columns_are_found_by_name_and_said(write, heard, header, text, label):
    width = header.count(",") + 1
    path = write(
        "a.csv",
        header
        + "\n"
        + ",".join(["aa"] * (width - 1) + ["x"])
        + "\n"
        + ",".join(["bb"] * (width - 1) + ["y"]),
    )
    data = read(path, say=heard)
    assert data.schema.text == text
    assert data.schema.label == label
    assert heard.about("text taken from") and heard.about("label taken from")  # noqa: PT018


def test_two_unknown_columns_are_told_apart_by_their_values(write, heard):
    rows = "".join(f"{'pq'[i % 2]};some longer sentence number {i}\n" for i in range(20))
    data = read(write("a.csv", "u;v\n" + rows), say=heard)
    assert (data.schema.text, data.schema.label) == (("v",), "u")


@pytest.mark.parametrize("header", ["a,b,c", "question,answer,label", "text,category,sentiment"])
def test_unclear_columns_are_refused_and_listed(write, heard, header):
    path = write("a.csv", header + "\n" + "x,y,z\nx,y,w\n")
    with pytest.raises(DataError, match="not clear") as error:
        read(path, say=heard)
    assert all(repr(name) in str(error.value) for name in header.split(","))


def test_file_without_header_is_noticed(write, heard):
    path = write("a.csv", "I love this thing a lot,pos\nI hate it,neg\nbest ever,pos\n" * 5)
    with pytest.raises(DataError, match="no header line"):
        read(path, say=heard)


def test_missing_column_suggests_the_nearest_and_lists_all(write, heard):
    path = write("a.csv", "message,category\na,x\nb,y\n")
    with pytest.raises(
        DataError, match=r"no column 'mesage'; did you mean 'message'\?.*'message', 'category'"
    ):
        read(path, text=["mesage"], label="category", say=heard)


def test_one_column_for_text_and_label_is_refused(write, heard):
    with pytest.raises(ConfigError, match="'text' is named as text and as label"):
        read(write("a.csv", "text,label\na,x\n"), text=["text"], label="text", say=heard)


def test_wide_flags_are_found_when_there_is_no_label_column(write, heard):
    path = write("a.csv", "id,comment_text,toxic,insult\n1,hi,0,0\n2,idiot,1,1\n3,bad,1,0\n")
    data = read(path, say=heard)
    assert data.schema.label_columns == ("toxic", "insult")
    assert data.labels == [(), ("toxic", "insult"), ("toxic",)]


def test_prediction_needs_no_label_column_but_keeps_it_out_of_the_text(write, heard):
    data = read(write("a.csv", "message,label\na,\nb,x\n"), need_labels=False, say=heard)
    assert data.texts == ["a", "b"]
    assert data.labels is None
    assert read(write("b.csv", "message\na\n"), label="label", need_labels=False, say=heard).texts == ["a"]


def test_prediction_without_the_id_column_numbers_the_rows(write, heard):
    data = read(write("a.csv", "text\na\nb\n"), id="key", need_labels=False, say=heard)
    assert data.ids == ["1", "2"]
    assert heard.about("no id column 'key'")
