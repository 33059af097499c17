"""Rows of a file that are nearly the same as an earlier row of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sortal.checks.base import CheckContext, Finding
from sortal.data.dataset import Indices
from sortal.data.problems import counted


def check(context: CheckContext) -> Iterator[Finding]:
    """Every part for itself; of texts that repeat exactly, the first row stands for all."""
    for part, dataset in context.parts.items():
        rows, source, likeness = near_repeats(context, part)
        if not len(rows):
            continue
        sets = context.labels.set_ids(part)
        other = sets[rows] != sets[source]
        # Two labels for what is nearly one text are what a person should see first.
        order = np.lexsort((rows, -likeness, ~other))
        rows, source, likeness = rows[order], source[order], likeness[order]
        contrary = int(other.sum())

        def note(
            i: int,
            part: str = part,
            rows: Indices = rows,
            source: Indices = source,
            likeness: npt.NDArray[np.float64] = likeness,
        ) -> str:
            labels = [context.labels.shown(part, int(row)) for row in (rows[i], source[i])]
            told = "" if labels[0] == labels[1] else f", {labels[0]} here and {labels[1]} there"
            return f"{likeness[i]:.0%} of {context.where(part, source[i])}{told}"

        yield Finding(
            "near-duplicates",
            "note",
            part,
            f"{counted(len(rows), 'row')} ({len(rows) / len(dataset):.1%}) {'is' if len(rows) == 1 else 'are'} nearly the same as "
            f"an earlier row of {context.name(part)}, {contrary:,} of them with other labels",
            "look at those with other labels; keep near-duplicates on one side of a split (--group)",
            rows,
            note,
        )


def near_repeats(context: CheckContext, part: str) -> tuple[Indices, Indices, npt.NDArray[np.float64]]:
    """Rows that are nearly an earlier row which is not itself one of them; that row; their similarity.

    Chains are cut: with A like B like C but not like A, only B repeats A. Positions int64 ``[k]`` twice, ascending by the
    row, and float64 ``[k]``.
    """
    ids, near = context.text_ids, context.near
    first = ids.first(part)
    ends = np.sort(first[near.texts], axis=1)
    inside = np.flatnonzero(ends[:, 0] >= 0)
    order = inside[np.lexsort((-near.similarity[inside], ends[inside, 1]))]
    repeats: dict[int, tuple[int, float]] = {}
    for (earlier, later), value in zip(ends[order].tolist(), near.similarity[order].tolist(), strict=True):
        if later not in repeats and earlier not in repeats:
            repeats[later] = (earlier, value)
    rows = np.array(list(repeats), np.int64)
    return (
        rows,
        np.array([source for source, _ in repeats.values()], np.int64),
        np.array([value for _, value in repeats.values()], np.float64),
    )
