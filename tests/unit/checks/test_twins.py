from __future__ import annotations

import csv

import pytest

from checked import context
from sortal.checks import twins
from sortal.checks.twins import find_twins, write_twins

PUNCTUATED = "the courier left my parcel, with a neighbour, who has moved away since then!"
LONG = "the courier left my parcel with a neighbour who has moved away since then"
NEAR = LONG.replace("courier", "driver")


def given(**more):
    return context(
        [("where is it", "a"), (LONG, "b")],
        dev=[("lost in dev", "a"), ("WHERE is  it", "a")],
        test=[(NEAR, "b"), ("something new", "a"), ("Lost in dev", "a"), ("where is it", "a"), ("", "a")],
        **more,
    )


def test_equal_and_near_texts_of_train_and_dev_are_twins():
    found = find_twins(given())
    assert found.rows.tolist() == [0, 2, 3]
    assert found.seen.tolist() == [0, 1, 0]  # the last one is in both, and train comes first
    assert found.source.tolist() == [1, 0, 0]
    assert found.likeness[1:].tolist() == [1, 1]
    assert found.equal.tolist() == [False, True, True]
    assert 0.7 <= found.likeness[0] < 1
    assert found.counts() == {"rows": 3, "equal": 2, "near": 1, "near_checked": True}


def test_an_equal_text_comes_before_one_that_differs_in_punctuation_only():
    found = find_twins(context([(PUNCTUATED, "a")], dev=[(LONG, "a")], test=[(LONG, "a")]))
    assert (found.seen.tolist(), found.equal.tolist(), found.likeness.tolist()) == ([1], [True], [1.0])
    near = find_twins(context([(PUNCTUATED, "a")], test=[(LONG, "a")]))
    assert (near.equal.tolist(), near.counts()["near"]) == ([False], 1)


@pytest.mark.parametrize("limit", ["MAX_ROWS", "MAX_CHARACTERS"])
def test_of_large_data_only_equal_texts_are_looked_for(monkeypatch, limit):
    monkeypatch.setattr(twins, limit, 8)
    found = find_twins(given())
    assert found.rows.tolist() == [2, 3]
    assert found.counts()["near_checked"] is False


def test_a_run_without_dev_rows():
    found = find_twins(context([("one", "a"), ("two", "b")], test=[("two", "b"), ("three", "a")]))
    assert found.rows.tolist() == [0]


def test_the_file_names_both_rows_of_a_pair(tmp_path):
    data = given()
    write_twins(tmp_path / "twins.csv", find_twins(data), data)
    with (tmp_path / "twins.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(x["file"], x["row"], x["part"], x["seen_file"], x["seen_row"]) for x in lines] == [
        ("test.csv", "1", "train", "train.csv", "2"),
        ("test.csv", "3", "dev", "dev.csv", "1"),
        ("test.csv", "4", "train", "train.csv", "1"),
    ]
    assert [x["equal"] for x in lines] == ["0", "1", "1"]
    assert [x["likeness"] == "1.000" for x in lines] == [False, True, True]
