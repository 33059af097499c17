from __future__ import annotations

import numpy as np

from checked import context, found, notes, rows
from sortal.checks import languages

ENGLISH = [
    ("The parcel that I ordered last week has still not arrived at my house.", "a"),
    ("Please tell me how I can change the password of my account.", "a"),
    ("Why was I charged twice for the same thing this month?", "a"),
    ("I would like to send these shoes back because they are too small.", "a"),
]
GERMAN = [
    ("Das Paket, das ich letzte Woche bestellt habe, ist immer noch nicht angekommen.", "a"),
    ("Bitte sagen Sie mir, wie ich mein Passwort ändern kann.", "a"),
]
FRENCH = [("Le colis que j'ai commandé la semaine dernière n'est toujours pas arrivé.", "a")]


def test_rows_in_other_languages_are_found_one_of_each_first():
    (finding,) = found("languages", context([*ENGLISH, *GERMAN, *FRENCH]))
    assert (finding.severity, rows(finding), notes(finding)) == ("note", [5, 7, 6], ["de", "fr", "de"])
    assert "3 rows (42.9%) are likely in another language than most (en): de 2, fr 1" in finding.what


def test_other_files_are_measured_against_training():
    (finding,) = found("languages", context(ENGLISH, test=GERMAN))
    assert (finding.part, rows(finding)) == ("test", [1, 2])
    assert "2 rows (100.0%)" in finding.what


def test_texts_too_short_to_show_a_language_and_those_without_one_say_nothing():
    unclear = [("ja, danke", "a"), ("OK", "a"), ("12345 67890", "a"), ("", "a")]
    assert found("languages", context([*ENGLISH, *unclear])) == []
    assert found("languages", context(unclear)) == []


def test_another_script_is_left_to_the_check_of_scripts():
    russian = [("Посылка, которую я заказал на прошлой неделе, до сих пор не пришла.", "a")]
    given = context([*ENGLISH, *russian])
    assert found("languages", given) == []
    assert len(found("scripts", given)) == 1


def test_of_many_rows_a_seeded_sample_is_looked_at_and_rows_keep_their_numbers(monkeypatch):
    monkeypatch.setattr(languages, "_ROWS", 40)
    given = context([*ENGLISH * 20, *GERMAN * 10])
    (finding,) = found("languages", given)
    assert "likely, of 40 random rows looked at, in another language" in finding.what
    assert 0 < len(finding.rows) < 20
    assert (np.asarray(finding.rows) >= 80).all()
    assert rows(finding) == rows(found("languages", given)[0])
