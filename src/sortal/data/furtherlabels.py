"""Labels that are right beside a row's own: one more column of the same file, read alone."""

from __future__ import annotations

from pathlib import Path

from sortal.data.canonical import Spelling
from sortal.data.files import open_source
from sortal.data.labelcells import CellBook, Labels, interpret
from sortal.data.problems import nearest
from sortal.data.records import Say
from sortal.errors import DataError


def read_further_labels(
    source: str | Path, column: str, say: Say, spelling: Spelling | None = None
) -> list[Labels]:
    """The labels in ``column`` of every row, in order: a list, several in one cell, or none.

    Args:
        spelling: of the labels that a model was trained on; None infers it.

    Raises:
        DataError: no such column, a file that cannot be read, or cells that hold no labels.
    """
    records = open_source(source, say)
    known = records.all_columns()
    if column not in known:
        raise DataError(
            f"{records.name} has no column {column!r}{nearest(column, known)}",
            "name the column with the further right labels",
        )
    book = CellBook()
    for batch in records.batches([column]):
        book.add(batch, batch.columns.get(column) or [None] * batch.size)
    found = interpret(
        book,
        records.name,
        column,
        task="multi",
        delimiter=None,
        spelling=spelling,
        names_given=False,
        lists_are_format=records.lists_are_format,
        say=lambda line: say(line) if line.startswith("warning") else None,
    )
    return [found.labels[code] for code in book.codes]
