"""Rows that occur again in the same file, text and labels alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding
from sortal.checks.remedies import Drop
from sortal.data.dataset import Indices
from sortal.data.problems import counted


def check(context: CheckContext) -> Iterator[Finding]:
    """Every part for itself; empty texts and equal texts with other labels are other checks' business."""
    for part, dataset in context.parts.items():
        again, first = repeated(context, part)
        if not len(again):
            continue
        originals = len(np.unique(first))

        def note(i: int, part: str = part, first: Indices = first) -> str:
            return f"the text and labels of {context.where(part, first[i])}"

        yield Finding(
            "duplicates",
            "warning",
            part,
            f"{counted(len(again), 'row')} ({len(again) / len(dataset):.1%}) {'repeats' if len(again) == 1 else 'repeat'} "
            f"text and labels of {counted(originals, 'earlier row')} of {context.name(part)}",
            "keep one of each: copies count several times in training and in every figure"
            if part == "train"
            else "keep one of each, or every copy counts in the figures",
            again,
            note,
            remedies=(Drop(again, note),) if part == "train" else (),
        )


def repeated(context: CheckContext, part: str) -> tuple[Indices, Indices]:
    """Positions of rows whose text and labels stand in an earlier row, ascending, and of that row, both int64 ``[k]``."""
    ids = context.text_ids.by_part[part]
    keys = np.stack([ids, context.labels.set_ids(part)])
    # lexsort keeps the order of equal keys, so that the first of each run is the first row.
    order = np.lexsort(keys)
    new = np.concatenate([[True], (np.diff(keys[:, order]) != 0).any(axis=0)])
    original = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    copies = ~new & (ids[order] != context.text_ids.empty)
    again = order[copies]
    by_row = np.argsort(again, kind="stable")
    return again[by_row], original[copies][by_row]
