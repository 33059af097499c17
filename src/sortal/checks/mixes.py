"""Rows of another kind than most, such as another script or language, as one finding."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from sortal.checks.base import Finding
from sortal.data.dataset import Indices
from sortal.data.problems import counted

_SHOWN = 5


def most_common(kinds: npt.NDArray[np.str_]) -> str:
    """The kind of most rows; "" where none has one."""
    found = Counter(kinds[kinds != ""].tolist())
    return found.most_common(1)[0][0] if found else ""


def others(
    check: str, part: str, rows: Indices, kinds: npt.NDArray[np.str_], usual: str, what: str, advice: str
) -> Finding | None:
    """A note about the rows whose kind is known and not ``usual``; None where there are none.

    Args:
        rows: int64 ``[n]``, the rows that were looked at. kinds: str ``[n]``, "" where a row says nothing.
        what: goes between the number of rows and the kinds.
    """
    odd = (kinds != usual) & (kinds != "")
    if not odd.any():
        return None
    found = kinds[odd]
    counts = Counter(found.tolist()).most_common()
    # The first row of every kind before the second of any.
    turn = np.zeros(len(found), np.int64)
    for kind, number in counts:
        turn[found == kind] = np.arange(number)
    order = np.argsort(turn, kind="stable")
    found = found[order]
    named = ", ".join(f"{kind} {number:,}" for kind, number in counts[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return Finding(
        check,
        "note",
        part,
        f"{counted(len(found), 'row')} ({len(found) / len(kinds):.1%}) {'is' if len(found) == 1 else 'are'} {what}: {named}{more}",
        advice,
        rows[odd][order],
        lambda i: str(found[i]),
    )
