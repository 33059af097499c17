"""Which words of a text matter to its labels: the text is scored again without each of them.

Occlusion as in Zeiler and Fergus (2014), on words: no gradient is needed, so that every method can be asked, and what is
reported is what the model answers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from sortal.data.sections import MARK
from sortal.evaluation.scores import Floats

MOST = 64
"""Words, or groups of them, that are left out of one text."""
_FLOOR = 1e-12  # log-odds stay finite
# Scripts that put no spaces between words: Han, Kana, Thai, Lao, Myanmar, Khmer. A character is their word.
_SPACELESS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORD = re.compile(rf"(?:[{_SPACELESS}]|[^\s{_SPACELESS}]+)\s*")


def words(text: str, most: int = MOST) -> list[str]:
    """The words of ``text`` with the white space after them; joined they give it back. Empty for a text without any.

    Args:
        most: with more words than this, neighbours are put together into so many groups of equal length.
    """
    found: list[str] = []
    for match in _WORD.finditer(text):
        if found and unicodedata.category(match[0][0]).startswith("M"):
            found[-1] += match[0]  # a vowel or tone sign belongs to the character before it
        else:
            found.append(match[0])
    if not found:
        return []
    found[0] = text[: len(text) - len("".join(found))] + found[0]
    n, groups = len(found), min(most, len(found))
    return ["".join(found[i * n // groups : (i + 1) * n // groups]) for i in range(groups)]


def without_each(parts: Sequence[str]) -> list[str]:
    """One text per part: all the others, and the borders between sections."""
    left = ["".join((*parts[:i], MARK * part.count(MARK), *parts[i + 1 :])) for i, part in enumerate(parts)]
    # A border at the end is an empty section, which stays one.
    return [*left[:-1], left[-1] if MARK in left[-1] else left[-1].rstrip()] if left else []


def log_odds(probabilities: Floats, columns: Sequence[int], *, single: bool) -> Floats:
    """log(p / (1 − p)) of some labels.

    Args:
        probabilities: ``[n, labels]``.
        columns: positions of the labels asked for.
        single: whether rows sum to one; 1 − p is then the sum of the others, exact where p is nearly 1.

    Returns:
        float64 ``[n, columns]``.
    """
    asked = probabilities[:, columns]
    others = 1 - asked
    if single:
        sums = [np.delete(probabilities, column, axis=1).sum(axis=1) for column in columns]
        others = np.stack(sums, axis=1)
    odds: Floats = np.log(np.maximum(asked, _FLOOR)) - np.log(np.maximum(others, _FLOOR))
    return odds
