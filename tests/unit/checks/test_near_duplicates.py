from __future__ import annotations

from checked import context, found, notes, rows

TEXT = "please tell me when my new card will arrive at my home"


def test_a_later_row_that_is_nearly_an_earlier_one_is_found():
    (finding,) = found("near-duplicates", context([(TEXT, "x"), ("other", "x"), (TEXT + "s", "x")]))
    assert (finding.severity, rows(finding)) == ("note", [3])
    assert notes(finding)[0].endswith("of row 1 of train.csv")
    assert (
        "1 row (33.3%) is nearly the same as an earlier row of train.csv, 0 of them with other labels"
        in finding.what
    )


def test_those_with_other_labels_come_first_and_say_so():
    (finding,) = found("near-duplicates", context([(TEXT, "x"), (TEXT + "s", "x"), (TEXT + " now", "y")]))
    assert rows(finding) == [3, 2]
    assert notes(finding)[0].endswith("of row 1 of train.csv, 'y' here and 'x' there")
    assert "1 of them with other labels" in finding.what


def test_chains_are_cut():
    first = "one two three four five six seven eight nine ten eleven twelve"
    second = first + " and some more"
    third = second + " words behind it"
    (finding,) = found("near-duplicates", context([(first, "x"), (second, "x"), (third, "x")]))
    assert rows(finding) == [2]


def test_exact_copies_are_not_near_duplicates():
    assert found("near-duplicates", context([(TEXT, "x"), (TEXT, "x"), (TEXT.upper(), "x")])) == []


def test_punctuation_alone_makes_a_near_duplicate():
    (finding,) = found("near-duplicates", context([(TEXT, "x"), (TEXT + "!", "x")]))
    assert notes(finding) == ["100% of row 1 of train.csv"]


def test_parts_are_told_apart():
    assert found("near-duplicates", context([(TEXT, "x")], test=[(TEXT + "s", "x")])) == []
