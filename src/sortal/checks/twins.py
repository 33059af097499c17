"""Test rows that have a twin, an equal or nearly equal text, among the rows that a model is made with."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sortal.checks.base import CheckContext
from sortal.checks.leakage import alike, equal
from sortal.data.dataset import Dataset, Indices
from sortal.training.atomic import atomic_file
from sortal.training.progress import NoProgress, ProgressView

SEEN = ("train", "dev")
# Above one of these, only equal texts are looked for: near-duplicates of so much take longer than a minute.
MAX_ROWS, MAX_CHARACTERS = 1_000_000, 200_000_000
_EQUAL = 2.0  # above any likeness, for near-duplicates can have 1
_COUNTED = 20_000  # characters of a text that near-duplicates are told by


@dataclass(frozen=True, eq=False)
class Twins:
    """Test rows with a twin in train or dev, beside the row there that is most like it.

    Attributes:
        rows: int64 ``[k]``, positions in test, ascending.
        seen: ``[k]`` of 0 for train and 1 for dev.
        source: int64 ``[k]``, positions there.
        likeness: float64 ``[k]``, 1 for an equal text and for one that differs in punctuation only.
        equal: bool ``[k]``, whether the text is equal, case and white space aside.
        near: whether near-duplicates were looked for, and not only equal texts.
    """

    rows: Indices
    seen: Indices
    source: Indices
    likeness: npt.NDArray[np.float64]
    equal: npt.NDArray[np.bool_]
    near: bool

    def counts(self) -> dict[str, int | bool]:
        """For ``metrics.json``."""
        equal = int(self.equal.sum())
        return {
            "rows": len(self.rows),
            "equal": equal,
            "near": len(self.rows) - equal,
            "near_checked": self.near,
        }


def find_twins(context: CheckContext) -> Twins:
    """Every row of part ``test`` whose text is in ``train`` or ``dev``, or nearly; train before dev where both have it.

    Equal and nearly equal are those of the check ``leakage``.
    """
    near = is_small(context.parts, MAX_ROWS, MAX_CHARACTERS)
    n = len(context.parts["test"])
    seen, source = (np.full(n, -1, np.int64) for _ in range(2))
    likeness = np.zeros(n)
    for number, part in enumerate(SEEN):
        if part not in context.parts:
            continue
        rows, there = equal(context, part, "test")
        found = [(rows, there, np.full(len(rows), _EQUAL))]
        if near:
            found.append(alike(context, part, "test"))
        for rows, there, how in found:
            better = how > likeness[rows]
            rows = rows[better]
            seen[rows], source[rows], likeness[rows] = number, there[better], how[better]
    rows = np.flatnonzero(likeness > 0).astype(np.int64)
    likeness = likeness[rows]
    return Twins(rows, seen[rows], source[rows], np.minimum(likeness, 1), likeness == _EQUAL, near)


def context_of(
    train: Dataset, dev: Dataset, test: Dataset, seed: int = 0, view: ProgressView | None = None
) -> CheckContext:
    """What the checks need of the rows of a run; a part without rows is left out."""
    parts = {"train": train, "dev": dev, "test": test}
    parts = {name: part for name, part in parts.items() if len(part)}
    return CheckContext(parts, seed=seed, view=view or NoProgress())


def write_twins(path: Path, twins: Twins, context: CheckContext) -> None:
    """A CSV with a line per test row that has a twin: which row of which file, what it is like, and how much (0 to 1).

    Raises:
        ResourceError: the file cannot be written.
    """
    test = context.parts["test"]
    ids = test.ids
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "file", "row", "part", "seen_file", "seen_row", "equal", "likeness"))
        columns = (twins.rows, twins.seen, twins.source, twins.equal, twins.likeness)
        for row, number, there, equal_, how in zip(*(column.tolist() for column in columns), strict=True):
            other = context.parts[SEEN[number]]
            seen = SEEN[number], other.source, int(other.rows[there])
            writer.writerow((ids[row], test.source, int(test.rows[row]), *seen, int(equal_), f"{how:.3f}"))


def is_small(parts: Mapping[str, Dataset], max_rows: int, max_characters: int) -> bool:
    """Whether the texts are few and short enough for what takes time with every one of them."""
    if sum(map(len, parts.values())) > max_rows:
        return False
    characters = 0
    for dataset in parts.values():
        for text in dataset.iter_texts():
            characters += min(len(text), _COUNTED)
            if characters > max_characters:
                return False
    return True
