"""One column per level, ``section,class,subclass``: every row names the nodes on the way to its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sortal.data.canonical import Spelling, canonical_names, spelling_of
from sortal.data.labelcells import CellBook, Labels
from sortal.data.problems import RowProblems
from sortal.data.records import Say
from sortal.data.textcells import is_missing

_FIX = "fill in the levels from the top, each name under one parent; names that repeat can be told apart as paths (path_separator)"


def interpret_levels(
    book: CellBook, source: str, columns: Sequence[str], say: Say, spellings: Sequence[Spelling] = ()
) -> tuple[list[Labels], dict[str, str | None], tuple[Spelling, ...]]:
    """Label per distinct row of level cells, the parent of every node, and the columns' spellings; the label is the last name of the row.

    A row may end early, above the last level; its cells after that are empty.

    Args:
        spellings: of the file that is read alike, per column; those of another number of columns say nothing, and are inferred.

    Raises:
        DataError: naming row and column of the first five rows without a label, with an empty level above a filled one, or with a name
            that stands under another parent, or on another level, in an earlier row.
    """
    counts = [_counts(book, level) for level in range(len(columns))]
    found = tuple(spellings) if len(spellings) == len(columns) else tuple(map(spelling_of, counts))
    cells = []
    for level, (column, spelling) in enumerate(zip(columns, found, strict=True)):
        names = canonical_names(counts[level], f"{source}, column {column!r}", say, spelling=spelling)
        ways = (row[level] for row in book.cells)
        cells.append([None if _empty(cell) else names[type(cell), cell] for cell in ways])
    _, first = np.unique(book.code_array, return_index=True)
    tree, labels, bad = _Growing(columns), [], {}
    for code, way in enumerate(zip(*cells, strict=True)):
        if wrong := _gap(way, columns) or tree.add([name for name in way if name], int(first[code]) + 1):
            bad[code] = wrong
        labels.append(tuple(name for name in way if name)[-1:])
    if bad:
        problems = RowProblems(source, _FIX)
        for row, line, code in book.rows_of(list(bad)):
            problems.add(row, bad[code], line)
        problems.raise_if_any()
    return labels, tree.parent_of, found


@dataclass
class _Growing:
    """The nodes of the rows so far, with their parents and the first row that named each."""

    columns: Sequence[str]
    parent_of: dict[str, str | None] = field(default_factory=dict)
    row_of: dict[str, int] = field(default_factory=dict)

    def add(self, way: Sequence[str], row: int) -> str:
        """Take in the names of a row; returns what is wrong with them, or nothing."""
        above: str | None = None
        for level, name in enumerate(way):
            column = self.columns[level]
            if name in way[:level]:
                return f"column {column!r} repeats {name!r}, the name of a level above it"
            if name not in self.parent_of:
                self.parent_of[name], self.row_of[name] = above, row
            elif (other := self.parent_of[name]) != above:
                return f"column {column!r} holds {name!r} {_under(above)}, and in row {self.row_of[name]:,} it is {_under(other)}"
            above = name
        return ""


def _under(parent: str | None) -> str:
    return "at the top level" if parent is None else f"under {parent!r}"


def _gap(way: Sequence[str | None], columns: Sequence[str]) -> str:
    """What is wrong with the empty cells of a row, or nothing."""
    filled = [level for level, name in enumerate(way) if name]
    if not filled:
        return f"column {columns[0]!r} has no label"
    if len(filled) <= filled[-1]:
        gap = next(level for level, name in enumerate(way) if not name)
        return f"column {columns[gap]!r} is empty, and column {columns[filled[-1]]!r}, a level below, is not"
    return ""


def _counts(book: CellBook, level: int) -> dict[tuple[type, object], int]:
    """Rows of every distinct cell in one column, the empty ones left out."""
    counts: dict[tuple[type, object], int] = {}
    for row, count in zip(book.cells, book.counts().tolist(), strict=True):
        if not _empty(cell := row[level]):
            counts[type(cell), cell] = counts.get((type(cell), cell), 0) + count
    return counts


def _empty(cell: object) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip())
