"""From label cells, as the file wrote them, to one tuple of label strings per row.

Cells are collected as codes into a book of distinct cells: what a cell means is decided once per distinct cell, from
all of them together, and memory grows with the number of distinct cells, not of rows.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.data.canonical import Spelling, canonical_names, spelling_of
from sortal.data.delimiters import infer_delimiter, split_cell
from sortal.data.literals import is_bracketed, parse_bare_list, parse_list, written_as_lists
from sortal.data.problems import RowProblems, counted, shortened
from sortal.data.records import Batch, Say
from sortal.data.schema import Task
from sortal.data.textcells import is_missing
from sortal.errors import DataError

Labels = tuple[str, ...]


@dataclass
class CellBook:
    """Distinct label cells with a code per row."""

    cells: list[Any] = field(default_factory=list)
    codes: array[int] = field(default_factory=lambda: array("q"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    _known: dict[Any, int] = field(default_factory=dict)

    def add(self, batch: Batch, values: Sequence[Any]) -> None:
        """Append the label cells of a batch."""
        for value in values:
            # 1, 1.0, True and "1" are different cells although Python calls some of them equal.
            key = value if type(value) is str else (type(value), repr(value))
            code = self._known.get(key)
            if code is None:
                code = self._known[key] = len(self.cells)
                self.cells.append(value)
            self.codes.append(code)
        self.lines.extend(batch.lines if batch.lines is not None else [0] * batch.size)

    @property
    def code_array(self) -> npt.NDArray[np.int64]:
        """Codes, int64 [n]."""
        return np.frombuffer(self.codes, np.int64) if len(self.codes) else np.zeros(0, np.int64)

    def counts(self) -> npt.NDArray[np.int64]:
        """Rows per distinct cell, int64 [distinct]."""
        return np.bincount(self.code_array, minlength=len(self.cells))

    def rows_of(self, codes: Sequence[int]) -> Iterator[tuple[int, int | None, int]]:
        """(1-based row, line, code) of the rows whose cell has one of ``codes``, in row order."""
        for position in np.flatnonzero(np.isin(self.code_array, list(codes))).tolist():
            yield position + 1, self.lines[position] or None, self.codes[position]


@dataclass(frozen=True)
class Interpretation:
    """What the cells mean: labels per distinct cell, the task, and how another file is read alike."""

    labels: list[Labels]
    task: Task
    delimiter: str | None
    spelling: Spelling | None


def interpret(
    book: CellBook,
    source: str,
    column: str,
    *,
    task: Task | None,
    delimiter: str | None,
    spelling: Spelling | None = None,
    names_given: bool,
    lists_are_format: bool,
    say: Say,
) -> Interpretation:
    """Decide task and format from all distinct cells and turn each into labels.

    Args:
        task: as given, or None to infer it.
        delimiter: as given; None infers it; ``""`` never splits.
        spelling: of the file that is read alike; None infers it.
        names_given: the values are declared names (hub ClassLabel) and are left exactly as they are.
        lists_are_format: lists are how the format writes even one label (fastText), so they say nothing about the task.

    Raises:
        DataError: naming the column and the first five rows, for missing labels, several labels in a single-label
            task, or cells that are no labels.
    """
    given = delimiter
    items, delimiter, listlike = _split(book, source, column, task=task, delimiter=delimiter, say=say)
    inferred = delimiter != given
    several = any(len(set(map(repr, cell))) > 1 for cell in items if cell)
    if task is None:
        task = "multi" if (delimiter or (listlike and not lists_are_format) or several) else "single"
        if not inferred:
            reason = (
                "one label per row"
                if task == "single"
                else "lists"
                if listlike
                else f"separated by {delimiter!r}"
            )
            other = "--task single" if task == "multi" else "--task multi"
            hint = f"{other} changes this."
            if task == "multi" and all(len(cell) == 1 for cell in items):
                hint = f"each holds one label: if no text has several, say {other}."
            say(f"{source}: {task}-label task ({reason} in column {column!r}); {hint}")
    if task == "single":
        _require_one(book, items, source, column)
    scalars: Counter[tuple[type, Any]] = Counter()
    for cell, count in zip(items, book.counts().tolist(), strict=True):
        for item in cell:
            scalars[(type(item), item)] += count
    spelling = None if names_given else spelling or spelling_of(scalars)
    where = f"{source}, column {column!r}"
    names = canonical_names(scalars, where, say, keep=names_given, spelling=spelling)
    labels = [tuple(dict.fromkeys(names[(type(item), item)] for item in cell)) for cell in items]
    distinct = len(set(labels))
    if task == "single" and len(book.codes) >= 50 and distinct > 0.5 * len(book.codes):
        say(
            f"warning: {source}: column {column!r} holds {distinct:,} different labels in {len(book.codes):,} rows; "
            "is it the label column?"
        )
    if task == "multi":
        empty = int(
            sum(count for cell, count in zip(labels, book.counts().tolist(), strict=True) if not cell)
        )
        if empty:
            say(
                f"{source}: {counted(empty, 'row')} without any label in column {column!r}; kept as rows with no label."
            )
    return Interpretation(labels, task, delimiter if delimiter or listlike else "", spelling)


def _split(
    book: CellBook, source: str, column: str, *, task: Task | None, delimiter: str | None, say: Say
) -> tuple[list[list[Any]], str | None, bool]:
    """Items of every distinct cell, the delimiter, and whether the cells are lists."""
    strings = [cell for cell in book.cells if isinstance(cell, str) and cell.strip()]
    typed = any(isinstance(cell, (list, tuple, dict)) for cell in book.cells)
    as_text: Callable[[str], list[Any]] = lambda cell: [cell] if cell.strip() else []  # noqa: E731
    written = delimiter is None and not typed and written_as_lists(strings, bare=task != "single")
    if delimiter:
        separator = delimiter
        as_text = lambda cell: split_cell(cell, separator)  # noqa: E731
    elif written:
        say(
            f"{source}: cells of column {column!r} are read as lists of labels (for example {shortened(max(strings, key=is_bracketed), 40)})."
        )
        as_text = _items_of_list
    elif delimiter is None and not typed and task != "single":
        counts = book.counts().tolist()
        weights = {
            cell: count for cell, count in zip(book.cells, counts, strict=True) if isinstance(cell, str)
        }
        found = infer_delimiter(weights, sure=task is None)
        if found:
            delimiter = found.delimiter
            say(
                f"{source}: labels in column {column!r} look {found.name}-separated (for example {found.example!r}): "
                "multi-label task; pass --task single to prevent this."
            )
            as_text = lambda cell: split_cell(cell, found.delimiter)  # noqa: E731
    listlike = typed or written
    problems = RowProblems(source, "a label cell is a string, number, boolean, or a list of them")
    bad: dict[int, str] = {}
    items: list[list[Any]] = []
    for code, cell in enumerate(book.cells):
        try:
            items.append(_items(cell, as_text))
        except DataError as error:
            bad[code] = error.what
            items.append([])
    for row, line, code in book.rows_of(list(bad)) if bad else ():
        problems.add(row, f"column {column!r} {bad[code]}", line)
    problems.raise_if_any()
    vectors = _indicator_length(items) if listlike else 0
    if vectors:
        say(
            f"{source}: column {column!r} holds 0/1 vectors of length {vectors}; labels are named by position, 0 to {vectors - 1}."
        )
        items = [[position for position, flag in enumerate(cell) if flag] for cell in items]
    return items, delimiter, listlike


def _items_of_list(cell: str) -> list[Any]:
    if not cell.strip():
        return []
    parsed = parse_list(cell)
    if parsed is None and not is_bracketed(cell):
        raise DataError(f"holds {shortened(cell)}, which is not a list like the other cells")
    return parse_bare_list(cell) if parsed is None else [item for item in parsed if item != ""]


def _items(cell: Any, as_text: Callable[[str], list[Any]]) -> list[Any]:
    if is_missing(cell):
        return []
    if isinstance(cell, str):
        return [_scalar(item) for item in as_text(cell) if not is_missing(item)]
    if isinstance(cell, dict):
        if not all(is_missing(value) or value in (0, 1) for value in cell.values()):
            raise DataError(f"holds the object {shortened(cell)}; only objects of 0/1 flags are labels")
        return [str(name) for name, value in cell.items() if value == 1]
    if isinstance(cell, (list, tuple)):
        return [_scalar(item) for item in cell if not is_missing(item) and str(item).strip()]
    return [_scalar(cell)]


def _scalar(item: Any) -> Any:
    if isinstance(item, str):
        return item
    if isinstance(item, (bool, int, float)):
        return item
    if isinstance(item, (list, tuple, dict, bytes)):
        raise DataError(f"holds {shortened(item)} where a label is expected")
    return str(item)


def _indicator_length(items: list[list[Any]]) -> int:
    """Length of the 0/1 vectors when every cell is one, else 0: lists do not repeat a label, nor turn the same two round."""
    lengths = {len(cell) for cell in items}
    if len(lengths) != 1 or min(lengths) < 2:
        return 0
    flags = all(item in (0, 1) and not isinstance(item, str) for cell in items for item in cell)
    repeats = any(len(set(cell)) < len(cell) for cell in items)
    turned = {tuple(cell) for cell in items} == {(0, 1), (1, 0)}
    return lengths.pop() if flags and (repeats or turned) else 0


def _require_one(book: CellBook, items: list[list[Any]], source: str, column: str) -> None:
    missing = {code for code, cell in enumerate(items) if not cell}
    several = {code for code, cell in enumerate(items) if len(set(map(repr, cell))) > 1}
    if not missing and not several:
        return
    fix = "fill in or remove these rows" if missing else "give each row one label, or use --task multi"
    problems = RowProblems(
        source, f"{fix}; rows without a label are legal only in a multi-label task" if missing else fix
    )
    for row, line, code in book.rows_of([*missing, *several]):
        cell = shortened(book.cells[code])
        problems.add(
            row,
            f"column {column!r} has no label"
            if code in missing
            else f"column {column!r} has several labels: {cell}",
            line,
        )
    problems.raise_if_any()
