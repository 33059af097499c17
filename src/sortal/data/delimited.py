"""CSV, TSV and their relatives, row by row in strict mode, with exact row and line numbers."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sortal.data.dialect import Dialect, sniff
from sortal.data.encoding import TextFile, detect
from sortal.data.problems import RowProblems, listed, shortened
from sortal.data.records import BATCH_CHARACTERS, BATCH_ROWS, Batch, RecordSource, Say
from sortal.errors import DataError

csv.field_size_limit(2**31 - 1)
_QUOTES = 'write a quote inside a quoted cell twice ("") and close every quoted cell'


class DelimitedFile(RecordSource):
    """A delimited text file whose first line names the columns.

    Raises:
        DataError: empty, no usable encoding, duplicate column names, or (while iterating) ragged or badly quoted rows.
    """

    def __init__(self, path: Path, name: str, say: Say) -> None:
        self.name = name
        self._file: TextFile = detect(path, say)
        self._dialect: Dialect = sniff(self._file, name, say)
        header = next(self._records(), (1, [""]))[1]
        duplicates = [column for column, count in Counter(header).items() if count > 1 and column]
        if duplicates:
            raise DataError(
                f"{name}, line 1: duplicate column {listed(duplicates)} in the header {listed(header)}",
                "rename one of them",
            )
        # Unnamed index columns are common (pandas, R); keep them apart so that nothing is overwritten.
        self.columns = tuple(column or f"Unnamed: {position}" for position, column in enumerate(header))

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """(line the record starts on, cells) for the header and every row; blank lines are left out unless they are rows."""
        with self._file.open() as stream:
            reader = csv.reader(stream, **self._dialect.arguments())
            blank: list[int] = []
            width = 0
            start = 1
            try:
                for cells in reader:
                    if cells:
                        if width == 1:
                            # In a one-column file a blank line between rows is an empty text.
                            yield from ((line, [""]) for line in blank)
                        blank = []
                        if not width:
                            width = len(cells)
                            cells = [cell.strip() for cell in cells]
                        yield start, cells
                    elif width:
                        blank.append(start)
                    start = reader.line_num + 1
            except csv.Error as error:
                raise DataError(f"{self.name}, line {start:,}: {_explained(error)}", _QUOTES) from None

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """See `RecordSource.batches`."""
        wanted = [
            (name, self.columns.index(name)) for name in columns or self.columns if name in self.columns
        ]
        delimiter = "tab" if self._dialect.delimiter == "\t" else self._dialect.delimiter
        problems = RowProblems(
            self.name,
            f"quote cells that contain the delimiter ({delimiter}) or line breaks, and fill missing cells",
        )
        width, first, size = len(self.columns), 1, 0
        rows: list[list[str]] = []
        lines: list[int] = []
        records = self._records()
        next(records)
        row = 0
        try:
            for row, (line, cells) in enumerate(records, start=1):
                if len(cells) != width:
                    problems.add(row, f"has {len(cells)} cells, the header has {width}", line)
                for position, cell in enumerate(cells):
                    if "\0" in cell:
                        column = self.columns[position] if position < width else str(position + 1)
                        problems.add(
                            row,
                            f"column {column!r} has a NUL byte near {shortened(cell.replace(chr(0), '␀'))}",
                            line,
                        )
                rows.append(cells)
                lines.append(line)
                size += sum(map(len, cells))
                if len(rows) >= BATCH_ROWS or size >= BATCH_CHARACTERS:
                    problems.raise_if_any()
                    yield _batch(wanted, rows, first, lines)
                    first, size, rows, lines = row + 1, 0, [], []
        except DataError:
            problems.raise_if_any()
            raise
        problems.raise_if_any()
        if rows:
            yield _batch(wanted, rows, first, lines)


def _batch(wanted: list[tuple[str, int]], rows: list[list[str]], first: int, lines: list[int]) -> Batch:
    columns: dict[str, list[Any]] = {name: [cells[position] for cells in rows] for name, position in wanted}
    return Batch(columns, len(rows), first, lines)


def _explained(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end of data" in message:
        return "a quoted cell that starts here is never closed"
    if "expected after" in message:
        return f"stray quote inside the row that starts here ({message})"
    return message
