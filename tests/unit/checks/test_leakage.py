from __future__ import annotations

import random

import numpy as np
import pytest

from checked import context, found, notes, rows
from sortal.checks.base import NotChecked
from sortal.checks.leakage import alike
from sortal.checks.shingles import similarity

LONG = "please tell me when my new card will arrive at my home"


def test_equal_texts_of_test_and_train_are_an_error_and_the_training_rows_go():
    given = context(
        [("b", "x"), ("shared", "x"), ("Shared ", "y"), ("c", "x")],
        test=[("new", "x"), ("SHARED", "x"), ("b", "x")],
    )
    (finding,) = found("leakage", given)
    assert (finding.severity, finding.part, rows(finding)) == ("error", "test", [2, 3])
    assert notes(finding) == ["the text of row 2 of train.csv", "the text of row 1 of train.csv"]
    assert "2 rows (66.7%) have texts of train.csv" in finding.what
    (drop,) = finding.remedies
    assert drop.rows.tolist() == [0, 1, 2]
    assert [drop.why(i) for i in range(3)] == [
        "its text is in row 3 of test.csv",
        "its text is in row 2 of test.csv",
        "its text is in row 2 of test.csv",
    ]


def test_near_duplicates_are_a_warning_with_the_row_that_is_most_alike():
    given = context(
        [("something else", "x"), (LONG + " in town soon", "x"), (LONG + "s", "x")],
        test=[(LONG, "x"), ("other", "x")],
    )
    (finding,) = found("leakage", given)
    assert (finding.severity, finding.part, rows(finding)) == ("warning", "test", [1])
    assert notes(finding)[0].endswith("of row 3 of train.csv")
    assert notes(finding)[0].startswith("88%")
    assert finding.remedies == ()


def test_an_equal_text_is_not_counted_again_as_a_near_one():
    given = context([(LONG, "x"), (LONG + "s", "x")], test=[(LONG, "x")])
    (finding,) = found("leakage", given)
    assert finding.severity == "error"


def test_the_most_alike_rows_come_first():
    given = context([(LONG, "x")], test=[(LONG + " or not", "x"), (LONG + "s", "x")])
    (finding,) = found("leakage", given)
    assert rows(finding) == [2, 1]


def test_dev_and_test_are_compared_too_without_blaming_train():
    given = context([("a", "x")], dev=[("same", "x")], test=[("same", "x")])
    (finding,) = found("leakage", given)
    assert (finding.severity, finding.part) == ("warning", "test")
    assert notes(finding) == ["the text of row 1 of dev.csv"]
    assert finding.remedies == ()


def test_different_and_empty_texts_are_no_leak():
    assert found("leakage", context([("a", "x"), ("", "x")], test=[("b", "x"), (" ", "x")])) == []


def test_without_another_file_it_says_so():
    with pytest.raises(NotChecked, match="--test"):
        found("leakage", context([("a", "x")]))


@pytest.mark.parametrize(("train", "test"), [(60, 300), (200, 60), (1, 200)])
def test_of_many_texts_made_from_one_template_every_leak_is_found(train, test):
    draw = random.Random(0)
    made = [
        f"dear customer your order {draw.randrange(10**6)} has been shipped and will arrive on day {draw.randrange(300)}"
        for _ in range(train + test)
    ]
    labelled = [(text, "a") for text in made]
    found_, source, likeness = alike(context(labelled[:train], test=labelled[train:]), "train", "test")
    pairs = np.array([(row, other) for row in range(test) for other in range(train)])
    every = similarity(made, train + pairs[:, 0], pairs[:, 1]).reshape(test, train)
    expected = np.flatnonzero(every.max(axis=1) >= 0.7)
    assert len(expected) > 20
    assert set(found_.tolist()) <= set(expected.tolist())
    assert len(found_) >= 0.99 * len(expected)
    assert every[found_, source] == pytest.approx(likeness)
