"""Labels with too few rows to be learned and measured, and data with a single class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding
from sortal.data.problems import counted, listed

# One for dev, one for test and a few to learn from.
FEW = 5
_SHOWN = 5


def check(context: CheckContext) -> Iterator[Finding]:
    """Of the training file."""
    labels, source = context.labels, context.train.source
    counts = labels.counts("train")
    present = np.flatnonzero(counts)
    everywhere = [int(code) for code in present if counts[code] == len(context.train)]
    if not len(present) or (len(present) == 1 and everywhere):
        name = labels.names[present[0]] if len(present) else ""
        yield Finding(
            "rare-labels",
            "error",
            "train",
            f"every row of {source} has the label {name!r}" if name else f"no row of {source} has a label",
            "add rows of another class; a single-label task needs at least two"
            if labels.single
            else "add rows with other labels, and check that the label column is the right one",
            labels.with_label("train", int(present[0])) if len(present) else np.arange(len(context.train)),
            count=len(present),
            unit="label",
        )
        return
    rare = present[counts[present] < FEW]
    if not len(rare):
        return
    rare = rare[np.argsort(counts[rare], kind="stable")]
    names = [f"{labels.names[code]} ({counts[code]})" for code in rare]
    rows, of = labels.examples("train", rare, FEW)
    yield Finding(
        "rare-labels",
        "warning",
        "train",
        f"{counted(len(rare), 'label')} of {len(present):,} {'has' if len(rare) == 1 else 'have'} fewer than {FEW} rows: {listed(names, _SHOWN)}",
        "add rows with them, merge them into a wider label, or leave them out: they can hardly be learned, and not be measured",
        rows,
        lambda i: f"{labels.names[of[i]]!r} has {counted(int(counts[of[i]]), 'row')}",
        count=len(rare),
        unit="label",
    )
