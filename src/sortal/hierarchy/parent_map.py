"""A file of parents: a CSV with the columns ``label`` and ``parent``, one row per node."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from sortal.data.problems import RowProblems
from sortal.errors import DataError

_FIX = "give a CSV with the columns label and parent, one row per label; a label at the top level has an empty parent"


def read_parent_map(path: str | Path) -> dict[str, str | None]:
    """Parent of every node, None at the top level. A parent without a row of its own is at the top level.

    Raises:
        DataError: an unreadable file; or, naming rows, a label without a name, with two parents, that is its own parent or ancestor.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"parent map {path} cannot be read: {reason}", _FIX) from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not {"label", "parent"} <= set(reader.fieldnames or ()):
        raise DataError(f"{path} lacks the column label or parent; its columns are {reader.fieldnames}", _FIX)
    problems = RowProblems(str(path), _FIX)
    parent_of: dict[str, str | None] = {}
    row_of: dict[str, int] = {}
    for number, row in enumerate(reader, start=1):
        label, parent = (row["label"] or "").strip(), (row["parent"] or "").strip() or None
        if not label:
            problems.add(number, "column 'label' is empty", reader.line_num)
        elif parent == label:
            problems.add(number, f"label {label!r} is its own parent (column 'parent')", reader.line_num)
        elif label in row_of and parent_of[label] != parent:
            problems.add(
                number,
                f"label {label!r} has the parent {parent or 'none'!r} here and {parent_of[label] or 'none'!r} in row {row_of[label]:,}; "
                "a label has one parent, and two labels need two names",
                reader.line_num,
            )
        else:
            parent_of[label] = parent
            row_of.setdefault(label, number)
    problems.raise_if_any()
    for parent in [up for up in parent_of.values() if up is not None]:
        parent_of.setdefault(parent, None)
    _refuse_cycles(parent_of, row_of, path)
    return parent_of


def _refuse_cycles(parent_of: Mapping[str, str | None], row_of: Mapping[str, int], path: Path) -> None:
    sound: set[str] = set()
    for start in parent_of:
        way: list[str] = []
        node: str | None = start
        while node is not None and node not in sound and node not in way:
            way.append(node)
            node = parent_of[node]
        if node is not None and node in way:
            circle = [*way[way.index(node) :], node]
            raise DataError(
                f"{path}: row {row_of[node]:,}: label {node!r} is among its own ancestors: {' under '.join(map(repr, circle))}",
                "give one of them another parent, or none",
            )
        sound.update(way)
