"""Texts in another script than most: what can be known of their language for certain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding
from sortal.checks.mixes import most_common, others
from sortal.evaluation.scripts import script

# Japanese and Korean are written in several at once; which one prevails in a text says nothing.
_FAMILY = dict.fromkeys(("CJK", "Hiragana", "Katakana", "Hangul", "Bopomofo"), "East Asian")


def check(context: CheckContext) -> Iterator[Finding]:
    """Every part for itself, against the script of most texts of the training file."""
    usual = ""
    for part in context.parts:
        found = np.array([family(text) for text in context.texts(part, "looking at scripts")], np.str_)
        usual = usual or most_common(found)
        finding = others(
            "scripts",
            part,
            np.arange(len(found)),
            found,
            usual,
            f"not in {usual} script as most are",
            "check that the base model knows these languages, and that each has its share of dev and test",
        )
        if finding is not None:
            yield finding


def family(text: str) -> str:
    """The script of most letters, those that one language mixes as one; "" without letters."""
    name = script(text)
    return _FAMILY.get(name, name)
