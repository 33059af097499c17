from __future__ import annotations

from checked import context, found, notes, rows

LATIN = [(f"plain text {number}", "a") for number in range(8)]


def test_rows_in_other_scripts_are_found_one_of_each_first():
    given = context([*LATIN, ("привет мир", "a"), ("ещё привет", "a"), ("שלום עולם", "a"), ("12345", "a")])
    (finding,) = found("scripts", given)
    assert (finding.severity, rows(finding), notes(finding)) == (
        "note",
        [9, 11, 10],
        ["Cyrillic", "Hebrew", "Cyrillic"],
    )
    assert "3 rows (25.0%) are not in Latin script as most are: Cyrillic 2, Hebrew 1" in finding.what


def test_other_files_are_measured_against_training():
    (finding,) = found("scripts", context(LATIN, test=[("привет", "a"), ("мир", "a")]))
    assert (finding.part, rows(finding)) == ("test", [1, 2])


def test_the_scripts_of_one_language_are_no_mix():
    japanese = [("日本語", "a"), ("ひらがなです", "a"), ("カタカナ", "a"), ("漢字とかな", "a")]
    assert found("scripts", context(japanese)) == []


def test_one_script_is_fine():
    assert found("scripts", context([*LATIN, ("naïve café", "a"), ("123", "a"), ("", "a")])) == []
    assert found("scripts", context([("1", "a"), ("", "a")])) == []
