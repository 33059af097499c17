"""Wide 0/1 columns: one column per label, the column names are the labels."""

from __future__ import annotations

from typing import Any

from sortal.data.labelcells import CellBook, Labels
from sortal.data.problems import RowProblems, counted, shortened
from sortal.data.records import Batch, Say
from sortal.data.textcells import is_missing

_TRUE = {"1", "1.0", "true", "yes", "t", "y"}
_FALSE = {"", "0", "0.0", "false", "no", "f", "n"}


def add_flags(book: CellBook, batch: Batch, columns: tuple[str, ...]) -> None:
    """Append a batch's rows to the book, one tuple of flag cells per row."""
    cells = [batch.columns.get(name) or [None] * batch.size for name in columns]
    book.add(batch, list(zip(*cells, strict=True)))


def interpret_flags(book: CellBook, source: str, columns: tuple[str, ...], say: Say) -> list[Labels]:
    """Labels per distinct row of flags; an empty or null cell is 0.

    Raises:
        DataError: naming row and column of the first five cells that are neither 0/1, true/false, yes/no nor empty.
    """
    problems = RowProblems(
        source, "label columns hold 0/1, true/false, yes/no or nothing; name only such columns"
    )
    flags = [[_flag(cell) for cell in cells] for cells in book.cells]
    bad = [code for code, row in enumerate(flags) if None in row]
    for row, line, code in book.rows_of(bad) if bad else ():
        column = flags[code].index(None)
        problems.add(row, f"column {columns[column]!r} holds {shortened(book.cells[code][column])}", line)
    problems.raise_if_any()
    labels = [tuple(name for name, flag in zip(columns, row, strict=True) if flag) for row in flags]
    empty = sum(count for row, count in zip(labels, book.counts().tolist(), strict=True) if not row)
    if empty:
        say(f"{source}: {counted(empty, 'row')} with no label set; kept as rows with no label.")
    return labels


def _flag(cell: Any) -> bool | None:
    if is_missing(cell):
        return False
    if isinstance(cell, (bool, int, float)):
        return bool(cell) if cell in (0, 1) else None
    text = str(cell).strip().casefold()
    return True if text in _TRUE else False if text in _FALSE else None
