"""Texts in another script than most: what can be known of their language for certain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sortal.checks.base import CheckContext, Finding
from sortal.data.problems import counted
from sortal.evaluation.scripts import script

# Japanese and Korean are written in several at once; which one prevails in a text says nothing.
_FAMILY = dict.fromkeys(("CJK", "Hiragana", "Katakana", "Hangul", "Bopomofo"), "East Asian")
_SHOWN = 5


def check(context: CheckContext) -> Iterator[Finding]:
    """Every part for itself, against the script of most texts of the training file."""
    usual = ""
    for part in context.parts:
        found = np.array([_script(text) for text in context.texts(part, "looking at scripts")], np.str_)
        counts = Counter(found[found != ""].tolist())
        if not counts:
            continue
        usual = usual or counts.most_common(1)[0][0]
        if set(counts) - {usual}:
            yield _finding(context, part, found, counts, usual)


def _script(text: str) -> str:
    name = script(text)
    return _FAMILY.get(name, name)


def _finding(
    context: CheckContext, part: str, found: npt.NDArray[np.str_], counts: Counter[str], usual: str
) -> Finding:
    others = {name: count for name, count in counts.most_common() if name != usual}
    rows = np.flatnonzero((found != usual) & (found != "")).astype(np.int64)
    # The first row of every script before the second of any.
    turn = np.zeros(len(rows), np.int64)
    for name in others:
        mine = found[rows] == name
        turn[mine] = np.arange(mine.sum())
    rows = rows[np.argsort(turn, kind="stable")]
    named = ", ".join(f"{name} {count:,}" for name, count in list(others.items())[:_SHOWN])
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    share = len(rows) / len(found)
    return Finding(
        "scripts",
        "note",
        part,
        f"{counted(len(rows), 'row')} ({share:.1%}) {'is' if len(rows) == 1 else 'are'} not in {usual} script as most are: {named}{more}",
        "check that the base model knows these languages, and that each has its share of dev and test",
        rows,
        lambda i: str(found[rows[i]]),
    )
