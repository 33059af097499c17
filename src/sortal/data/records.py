"""The shape every reader gives its rows: batches of columns, re-iterable, with row and line numbers."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Say = Callable[[str], None]

BATCH_ROWS = 1_000
BATCH_CHARACTERS = 8_000_000


def say_on_stderr(message: str) -> None:
    """The default `Say`: standard output is kept for results."""
    print(message, file=sys.stderr)


def only_warnings(say: Say) -> Say:
    """For a second file read like a first: what was inferred is not said again."""
    return lambda line: say(line) if line.startswith("warning") else None


@dataclass(frozen=True)
class Batch:
    """Consecutive rows, column by column, as plain Python values.

    ``first_row`` is the 1-based number of the first data row; ``lines`` holds each row's line in the file when
    the format has lines.
    """

    columns: Mapping[str, list[Any]]
    size: int
    first_row: int
    lines: Sequence[int] | None = None

    def line(self, position: int) -> int | None:
        """The line in the file of the row at ``position`` (0-based) in this batch."""
        return None if self.lines is None else self.lines[position]


class RecordSource(ABC):
    """A file (or hub data set) as a stream of `Batch`; can be iterated more than once.

    ``columns`` are the names known after opening. ``class_names`` gives, for columns whose integers stand for
    names (hub ClassLabel), the names in their order; batches already hold the names.
    """

    name: str
    columns: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]] = {}
    lists_are_format = False
    """True when labels come as lists whatever the task (fastText), so that lists say nothing about the task."""

    @abstractmethod
    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """All rows in order; a column that a row lacks is None."""

    def all_columns(self) -> tuple[str, ...]:
        """Every column of the file; formats without a header may need a full pass."""
        return self.columns
