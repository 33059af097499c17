"""Texts that were decoded wrongly somewhere on their way, and characters that were lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding
from sortal.checks.mojibake import repair
from sortal.checks.remedies import Rewrite
from sortal.data.dataset import Indices
from sortal.data.problems import counted, shortened

_LOST = "\ufffd"


def check(context: CheckContext) -> Iterator[Finding]:
    """Every part for itself: mojibake, then lost characters."""
    for part in context.parts:
        damaged, lost = [], []
        for position, text in enumerate(context.texts(part, "looking for encoding damage")):
            if text.isascii():
                continue
            repaired = repair(text)
            if repaired != text:
                damaged.append(position)
            if _LOST in repaired:
                lost.append(position)
        if damaged:
            yield _mojibake(context, part, np.array(damaged, np.int64))
        if lost:
            yield _lost(context, part, np.array(lost, np.int64))


def _mojibake(context: CheckContext, part: str, rows: Indices) -> Finding:
    share = len(rows) / len(context.parts[part])

    def note(i: int) -> str:
        before, after = _difference(context.parts[part].text_at([rows[i]])[0])
        return f"{shortened(before, 20)} should be {shortened(after, 20)}"

    return Finding(
        "encoding",
        "warning",
        part,
        f"{counted(len(rows), 'row')} ({share:.1%}) {'mixes' if len(rows) == 1 else 'mix'} encodings: UTF-8 read as cp1252 or Latin-1",
        "repair them, for example with --fix, or read the source again as UTF-8",
        rows,
        note,
        remedies=(Rewrite(rows, repair),) if part == "train" else (),
    )


def _difference(text: str) -> tuple[str, str]:
    """What is damaged in ``text``, from the first to the last character that a repair changes, and the repair."""
    fixed = repair(text)
    start = next(
        i for i, pair in enumerate(zip(text + "\0", fixed + "\0", strict=False)) if pair[0] != pair[1]
    )
    end = 0
    while end < min(len(text), len(fixed)) - start and text[-1 - end] == fixed[-1 - end]:
        end += 1
    return text[start : len(text) - end], fixed[start : len(fixed) - end]


def _lost(context: CheckContext, part: str, rows: Indices) -> Finding:
    share = len(rows) / len(context.parts[part])

    def note(i: int) -> str:
        text = repair(context.parts[part].text_at([rows[i]])[0])
        at = text.find(_LOST)
        return f"at {shortened(text[max(at - 20, 0) : at + 20])}"

    return Finding(
        "encoding",
        "warning",
        part,
        f"{counted(len(rows), 'row')} ({share:.1%}) {'has' if len(rows) == 1 else 'have'} characters that an earlier conversion "
        "lost (U+FFFD)",
        "read the source again with its own encoding: what was lost cannot be told from this file",
        rows,
        note,
    )
