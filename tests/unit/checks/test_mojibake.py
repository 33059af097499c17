from __future__ import annotations

import pytest

from sortal.checks.mojibake import is_damaged, repair

WORDS = [
    "café", "naïve déjà vu", "“quoted” – don’t…", "price: 5 €", "Straße für Äpfel", "ÀÉÎÕÜ", "5 °C ± 1", "São Paulo, coração",
    "привет мир", "Ελληνικά", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "日本語のテキスト", "中文文本", "😀 fine 👍🏽", "Żółć jaźń", "™ © ®",
]  # fmt: skip


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", WORDS)
def test_utf_8_read_as_something_else_is_found_and_undone(text, encoding):
    try:
        damaged = text.encode("utf-8").decode(encoding)
    except UnicodeDecodeError:
        pytest.skip("cp1252 leaves a byte of this undefined")
    assert is_damaged(damaged)
    assert repair(damaged) == text


@pytest.mark.parametrize("text", WORDS)
def test_right_text_is_left_alone(text):
    assert not is_damaged(text)
    assert repair(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "plain ascii", "", "NÃO, É ISSO", "CAFÉ™", "Voilà\xa0»", "À «\xa0PARIS\xa0»", "naïveté… Ñandú", "Ä–Ö", "50\xa0€ à\xa0Paris", "Š‰ Ž",
        "GRÜẞE AUS ÖSTERREICH", "el niño ¿qué?", "Ã alone", "Â is a letter", "ÉTÉ À LA MER", "señor «Núñez»", "\x85 next",
    ],
)  # fmt: skip
def test_unusual_but_right_text_is_left_alone(text):
    if "\x85" in text:
        assert repair(text) == "… next"
    else:
        assert repair(text) == text


def test_damage_done_twice_is_undone_twice():
    twice = "don’t".encode().decode("cp1252").encode().decode("cp1252")
    assert repair(twice) == "don’t"


def test_only_the_damaged_words_change():
    assert repair("das cafÃ© in Köln kostet 5 €") == "das café in Köln kostet 5 €"


def test_a_single_damaged_letter_inside_a_word():
    assert repair("mÄ…dry") == "mądry"
    assert repair("JÄ… GUT") == "JÄ… GUT"
