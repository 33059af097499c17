"""Words and tables for Markdown files, in which data cannot become markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What would start markup or HTML inside a line.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|])")


def safe(words: str) -> str:
    """On one line, with everything escaped that Markdown or HTML would read as its own."""
    return _SPECIAL.sub(r"\\\1", " ".join(words.split()))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Lines of a table of data; align: ``r`` for a column of numbers, any other letter for words."""
    rules = [" --: " if one == "r" else " --- " for one in align]
    return [_row(header), f"|{'|'.join(rules)}|", *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(safe(cell) for cell in cells)} |"
