from __future__ import annotations

import pytest

from checked import context, found, notes, rows
from sortal.checks.label_spelling import edits, twins, typos


def many(**counts: int) -> list[tuple[str, str]]:
    return [(f"{name} {number}", name) for name, count in counts.items() for number in range(count)]


def test_case_and_separator_twins_are_found_and_go_to_the_most_frequent():
    given = context([("a", "card_arrival"), ("b", "Card Arrival"), ("c", "card_arrival"), ("d", "other")])
    (finding,) = found("label-spelling", given)
    assert (finding.severity, finding.count, finding.unit) == ("warning", 1, "label")
    assert finding.what == "1 label differs only in case or separators: 'Card Arrival' for 'card_arrival'"
    assert (rows(finding), notes(finding)) == ([2], ["'Card Arrival'; 'card_arrival' is more frequent"])
    (remedy,) = finding.remedies
    assert (remedy.rows.tolist(), remedy.names) == ([1], {"Card Arrival": "card_arrival"})


@pytest.mark.parametrize("twin", ["cafe\u0301", "caf\u00e9\u200f", "\ufeffCaf\u00e9"])
def test_names_that_look_the_same_are_twins(twin):
    assert twins(["caf\u00e9", twin], [9, 1]) == {twin: "caf\u00e9"}


def test_joined_emoji_are_not_those_beside_each_other():
    assert twins(["\U0001f469\u200d\U0001f467", "\U0001f469\U0001f467"], [9, 1]) == {}


def test_a_rare_name_one_edit_from_a_frequent_one_is_a_slip_that_is_not_repaired():
    (finding,) = found("label-spelling", context([*many(politics=30, sports=30), ("x", "polotics")]))
    assert finding.what == "1 label looks like a slip of the pen: 'polotics' for 'politics'"
    assert rows(finding) == [61]
    assert finding.remedies == ()


@pytest.mark.parametrize(
    ("rare", "frequent"),
    [
        ("poiltics", "politics"),
        ("politcs", "politics"),
        ("politicss", "politics"),
        ("card arival tme", "card_arrival_time"),
    ],
)
def test_swaps_losses_and_additions_are_slips(rare, frequent):
    assert typos([rare, frequent], [1, 50]) == {rare: frequent}


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [
        ("class1", "class2", [1, 50]),
        ("A01B", "A01C", [1, 50]),
        ("male", "mail", [1, 50]),
        ("politics", "sports", [1, 50]),
        ("politics", "polotics", [20, 50]),
        ("positive", "negative", [1, 50]),
        ("-1", "1", [1, 50]),
        ("1.5", "1 5", [1, 50]),
        ("A01B 1/02", "A01B 10/2", [1, 50]),
    ],
)
def test_codes_short_names_other_words_and_frequent_labels_are_left_alone(one, other, counts):
    assert typos([one, other], counts) == {}
    assert twins([one, other], counts) == {}


def test_a_twin_that_only_test_has_is_found_but_train_needs_no_repair():
    (finding,) = found("label-spelling", context([("a", "joy"), ("b", "joy")], test=[("c", "Joy")]))
    assert (finding.part, rows(finding)) == ("test", [1])
    assert finding.remedies == ()


def test_several_labels_per_row():
    (finding,) = found(
        "label-spelling", context([("a", ("joy", "fear")), ("b", ("Joy", "fear")), ("c", ("joy",))])
    )
    assert (rows(finding), notes(finding)) == ([2], ["'Joy'; 'joy' is more frequent"])


def test_unicode_forms_of_one_name_are_twins():
    assert twins(["cafe\u0301", "caf\u00e9"], [1, 2]) == {"cafe\u0301": "caf\u00e9"}


def test_clean_labels_have_no_finding():
    assert found("label-spelling", context(many(world=20, health=20, africa=1))) == []


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("ab", "ba", 1),
        ("abcd", "acbd", 1),
    ],
)
def test_edit_distance(left, right, expected):
    assert edits(left, right) == edits(right, left) == expected
