from __future__ import annotations

import pytest

from sortal.evaluation.scripts import script


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where is my order?", "Latin"),
        ("où est ma commande", "Latin"),
        ("Где мой заказ", "Cyrillic"),
        ("我的订单在哪里", "CJK"),
        ("أين طلبي", "Arabic"),
        ("मेरा ऑर्डर", "Devanagari"),
        ("iPhone の注文はどこですか、まだ届いていません", "Hiragana"),
        ("12 €, 3 % :-)", ""),
        ("", ""),
        ("123 ()", ""),
        ("é" + "1" * 400, "Latin"),
        ("1" * 500 + "a", ""),
        ("\ue000\ue001", ""),
    ],
)
def test_the_script_is_that_of_most_letters(text, expected):
    assert script(text) == expected
