"""Labels that are paths, ``A/A01/A01B``: one spelling each, none with a gap in it."""

from __future__ import annotations

from collections.abc import Iterable

from sortal.data.dataset import Dataset
from sortal.data.problems import RowProblems, shortened
from sortal.errors import DataError


def normal_paths(dataset: Dataset, separator: str, level: int | None) -> dict[str, str]:
    """Every label of ``dataset`` → its path without spaces around names, cut after ``level`` names (None: whole).

    Raises:
        DataError: naming file, row and label of the first five paths with an empty level.
    """
    labels = dataset.labels or []
    found = {
        label: _names(label, separator)
        for row in (*labels, tuple(dataset.label_names or ()))
        for label in row
    }
    wrong = {label for label, names in found.items() if not all(names)}
    if wrong:
        problems = RowProblems(
            dataset.source,
            f"write every name between two {separator!r}, none before the first or after the last",
        )
        for position, row in enumerate(labels):
            for label in row:
                if label in wrong:
                    empty = found[label].index("") + 1
                    where = f"column {dataset.schema.label!r}, " if dataset.schema.label else ""
                    problems.add(
                        int(dataset.rows[position]),
                        f"{where}label {shortened(label)} has an empty level {empty}",
                    )
        problems.raise_if_any()
        raise DataError(
            f"{dataset.source}: the declared label {shortened(min(wrong))} has an empty level", problems.fix
        )
    return {label: separator.join(names[:level]) for label, names in found.items()}


def parents_of_paths(paths: Iterable[str], separator: str) -> dict[str, str | None]:
    """Parent of every path and of all paths that they begin with, None at the top level."""
    parent_of: dict[str, str | None] = {}
    for path in paths:
        node: str | None = path
        while node is not None and node not in parent_of:
            above, found, _ = node.rpartition(separator)
            parent_of[node] = above if found else None
            node = parent_of[node]
    return parent_of


def _names(label: str, separator: str) -> list[str]:
    return [name.strip() for name in label.split(separator)]
