from __future__ import annotations

from sortal.data.reading import read


def test_fasttext_lines_with_one_label_each_are_single_label(write, heard):
    data = read(write("a.txt", "__label__pos good , really\n__label__neg bad\n"), say=heard)
    assert data.labels == [("pos",), ("neg",)]
    assert data.texts == ["good , really", "bad"]
    assert data.task == "single"


def test_fasttext_lines_with_several_labels_are_multi_label(write, heard):
    data = read(write("a.txt", "__label__a __label__b both\n__label__b\tone\n"), say=heard)
    assert data.labels == [("a", "b"), ("b",)]
    assert data.texts == ["both", "one"]
    assert data.task == "multi"


def test_plain_lines_for_prediction_keep_empty_lines_between_rows(write, heard):
    data = read(write("a.txt", "first, with comma\n\nthird\n\n"), need_labels=False, say=heard)
    assert data.texts == ["first, with comma", "", "third"]


def test_text_file_with_a_header_is_a_table(write, heard):
    assert read(write("a.txt", "text\tlabel\nhello\tx\nbye\ty\n"), say=heard).labels == [("x",), ("y",)]
