"""Rare, single, unseen and unbalanced labels."""

from __future__ import annotations

import pytest

from checked import context, found, notes, rows
from sortal.checks.base import NotChecked


def many(**counts: int) -> list[tuple[str, str]]:
    return [(f"{name} {number}", name) for name, count in counts.items() for number in range(count)]


def test_labels_with_fewer_than_five_rows_are_named_rarest_first():
    (finding,) = found("rare-labels", context(many(a=10, b=4, c=1, d=5)))
    assert (finding.severity, finding.count, finding.unit) == ("warning", 2, "label")
    assert "2 labels of 4 have fewer than 5 rows: 'c (1)', 'b (4)'" in finding.what
    assert rows(finding) == [15, 11, 12, 13, 14]
    assert notes(finding)[:2] == ["'c' has 1 row", "'b' has 4 rows"]


def test_a_single_class_is_an_error():
    (finding,) = found("rare-labels", context(many(a=10)))
    assert finding.severity == "error"
    assert "every row of train.csv has the label 'a'" in finding.what


def test_one_label_that_some_rows_lack_is_a_yes_or_no_question():
    assert found("rare-labels", context([("x", ("a",)), ("y", ())] * 6)) == []


def test_no_labels_at_all_is_an_error():
    (finding,) = found("rare-labels", context([("x", ()), ("y", ())]))
    assert (finding.severity, finding.what) == ("error", "no row of train.csv has a label")


def test_enough_rows_of_every_label_are_fine():
    assert found("rare-labels", context(many(a=5, b=5))) == []


def test_labels_that_training_lacks_are_an_error_and_those_test_lacks_a_note():
    findings = found("unseen-labels", context(many(a=3, b=1), test=[("x", "a"), ("y", "new"), ("z", "new")]))
    assert [(f.severity, f.part, f.count, rows(f)) for f in findings] == [
        ("error", "test", 1, [2, 3]),
        ("note", "train", 1, [4]),
    ]
    assert "1 label of test.csv does not occur in train.csv: 'new'" in findings[0].what
    assert notes(findings[0]) == ["'new'", "'new'"]
    assert "1 label has no row in test.csv: 'b'" in findings[1].what
    assert notes(findings[1]) == ["'b'"]


def test_the_same_labels_everywhere_are_fine():
    assert found("unseen-labels", context(many(a=3, b=1), dev=many(a=1), test=many(a=1, b=1))) == []


def test_unseen_labels_need_a_second_file():
    with pytest.raises(NotChecked):
        found("unseen-labels", context(many(a=1)))


def test_ten_times_as_many_rows_is_a_note_with_the_rarest_labels_first():
    (finding,) = found("imbalance", context(many(a=60, b=6, c=20)))
    assert (finding.severity, finding.count) == ("note", 1)
    assert (
        "'a' has 60 rows (70%), 'b' 6: 10 times as many; always answering 'a' would be right in 70%"
        in finding.what
    )
    assert notes(finding) == ["'b' has 6 rows", "'c' has 20 rows", "'a' has 60 rows"]
    assert "class_weight" in finding.advice


def test_nine_tenths_of_one_label_is_a_warning():
    (finding,) = found("imbalance", context(many(a=95, b=5)))
    assert finding.severity == "warning"


def test_balanced_labels_are_fine():
    assert found("imbalance", context(many(a=59, b=6, c=20))) == []
    assert found("imbalance", context(many(a=59))) == []


def test_weights_for_several_labels_have_their_own_name():
    (finding,) = found("imbalance", context([("x", ("a", "b")), *[("y", ("a",))] * 20]))
    assert "pos_weight" in finding.advice
    assert "always answering" not in finding.what


def test_a_row_with_several_rare_labels_is_shown_once():
    rows_ = [("x", ("a", "b", "c")), ("y", ("d",)), *[(f"z{n}", ("e",)) for n in range(9)]]
    (finding,) = found("rare-labels", context(rows_))
    assert (finding.count, rows(finding)) == (4, [1, 2])
    assert notes(finding) == ["'a' has 1 row", "'d' has 1 row"]
