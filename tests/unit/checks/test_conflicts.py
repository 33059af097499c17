from __future__ import annotations

from checked import context, found, notes, rows


def test_equal_texts_with_different_labels_name_each_other():
    (finding,) = found("conflicts", context([("a", "x"), ("b", "x"), ("A", "y"), ("a", "y")]))
    assert rows(finding) == [1, 3, 4]
    assert notes(finding) == [
        "'x' here, 'y' in row 3 of train.csv",
        "'y' here, 'x' in row 1 of train.csv",
        "'y' here, 'x' in row 1 of train.csv",
    ]
    assert "3 rows share 1 text with rows that have other labels" in finding.what
    assert finding.remedies == ()


def test_a_conflict_between_two_files_is_told_for_both():
    findings = found("conflicts", context([("b", "x"), ("a", "x")], dev=[("c", "x")], test=[("a", "y")]))
    assert [(finding.part, rows(finding)) for finding in findings] == [("train", [2]), ("test", [1])]
    assert notes(findings[0]) == ["'x' here, 'y' in row 1 of test.csv"]
    assert notes(findings[1]) == ["'y' here, 'x' in row 2 of train.csv"]


def test_several_labels_conflict_as_sets():
    given = context([("a", ("x", "y")), ("a", ("y", "x")), ("b", ("x",)), ("b", ()), ("c", ("z",))])
    (finding,) = found("conflicts", given)
    assert rows(finding) == [3, 4]
    assert notes(finding) == [
        "'x' here, no label in row 4 of train.csv",
        "no label here, 'x' in row 3 of train.csv",
    ]


def test_agreeing_copies_and_empty_texts_are_no_conflict():
    assert found("conflicts", context([("a", "x"), ("a", "x"), ("", "x"), ("", "y")])) == []
