from __future__ import annotations

from checked import context, found, notes, rows


def test_later_copies_are_found_with_the_row_they_repeat():
    (finding,) = found(
        "duplicates", context([("b", "x"), ("a", "x"), ("A ", "x"), ("c", "x"), ("b", "x"), ("a", "x")])
    )
    assert rows(finding) == [3, 5, 6]
    assert notes(finding) == [
        "the text and labels of row 2 of train.csv",
        "the text and labels of row 1 of train.csv",
        "the text and labels of row 2 of train.csv",
    ]
    assert (finding.severity, finding.count) == ("warning", 3)
    assert "3 rows (50.0%) repeat text and labels of 2 earlier rows" in finding.what
    assert finding.remedies[0].rows.tolist() == [2, 4, 5]


def test_other_labels_make_no_duplicate_but_the_second_copy_with_them_is_one():
    (finding,) = found("duplicates", context([("a", "x"), ("a", "y"), ("a", "y"), ("b", "x")]))
    assert rows(finding) == [3]
    assert notes(finding) == ["the text and labels of row 2 of train.csv"]


def test_sets_of_labels_are_compared_whatever_their_order():
    given = context([("a", ("x", "y")), ("a", ("y", "x")), ("a", ("x",)), ("a", ()), ("a", ())])
    (finding,) = found("duplicates", given)
    assert rows(finding) == [2, 5]


def test_parts_are_told_apart_and_only_train_is_repaired():
    (finding,) = found(
        "duplicates", context([("a", "x"), ("b", "x")], test=[("a", "x"), ("c", "x"), ("c", "x")])
    )
    assert (finding.part, rows(finding)) == ("test", [3])
    assert finding.remedies == ()


def test_distinct_and_empty_texts_are_fine():
    assert found("duplicates", context([("a", "x"), ("b", "x"), ("", "x"), (" ", "x")])) == []
