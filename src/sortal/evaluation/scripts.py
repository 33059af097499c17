"""Which script a text is written in: what can be known of its language for certain, without a model that guesses."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache

_READ = 400  # characters, which settle it


def script(text: str) -> str:
    """The script of most letters of ``text``, as Unicode names it (``Latin``, ``Cyrillic``, ``CJK`` …); "" without letters."""
    if text.isascii():  # most texts, at a hundredth of the time
        return "Latin" if any(map(str.isalpha, text[:_READ])) else ""
    found = Counter(_of(character) for character in text[:_READ] if character.isalpha())
    return found.most_common(1)[0][0] if found else ""


@cache
def _of(letter: str) -> str:
    name = unicodedata.name(letter, "other").split()[0].split("-")[0]
    return name if name == "CJK" else name.capitalize()
