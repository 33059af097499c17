"""How a problem in the data is told: file, the first five rows with their lines, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sortal.errors import DataError

SHOWN = 5


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name (case ignored), or an empty string."""
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(candidate.casefold(), candidate)
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def listed(names: Sequence[str], limit: int = 40) -> str:
    """``'a', 'b' and 3 more`` for messages."""
    shown = ", ".join(repr(name) for name in names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def counted(number: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shortened(value: object, limit: int = 60) -> str:
    """``repr`` of a cell, cut so that a 10 MB cell does not fill the terminal."""
    text = repr(value[:limit] if isinstance(value, str) else value)
    return text if len(text) <= limit + 2 else text[:limit] + "…"


@dataclass
class RowProblems:
    """Collects what is wrong with single rows and raises one error naming the first five.

    Args:
        source: the file, for the message.
        fix: what the user can do.
    """

    source: str
    fix: str
    found: list[str] = field(default_factory=list)

    def add(self, row: int, detail: str, line: int | None = None) -> None:
        """Note a bad row (1-based data row, line in the file when known); the fifth one raises."""
        where = f"row {row:,}" if line is None else f"row {row:,} (line {line:,})"
        self.found.append(f"{where}: {detail}")
        if len(self.found) >= SHOWN:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raise `DataError` when a bad row was noted."""
        if self.found:
            head = "the first bad rows are " if len(self.found) >= SHOWN else ""
            raise DataError(f"{self.source}: {head}{'; '.join(self.found)}", self.fix)
