"""Equal texts with different labels: at most one of the answers can be right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding
from sortal.data.dataset import Indices
from sortal.data.problems import counted


def check(context: CheckContext) -> Iterator[Finding]:
    """Over all parts together; a finding for every part with such rows."""
    parts = list(context.parts)
    sizes = [len(context.parts[part]) for part in parts]
    ends = np.cumsum(sizes)
    ids = np.concatenate([context.text_ids.by_part[part] for part in parts])
    sets = np.concatenate([context.labels.set_ids(part) for part in parts])
    order = np.lexsort((sets, ids))
    new_text = np.concatenate([[True], np.diff(ids[order]) != 0])
    new_set = new_text | np.concatenate([[True], np.diff(sets[order]) != 0])
    starts = np.flatnonzero(new_text)
    lengths = np.diff(np.concatenate([starts, [len(ids)]]))
    # Beside each row of a text: the first row with its lowest labels, and the first with its highest.
    first_of_set = order[np.maximum.accumulate(np.where(new_set, np.arange(len(ids)), 0))]
    lowest = np.repeat(first_of_set[starts], lengths)
    highest = np.repeat(first_of_set[starts + lengths - 1], lengths)
    conflicting = np.flatnonzero((sets[lowest] != sets[highest]) & (ids[order] != context.text_ids.empty))
    conflicting = conflicting[np.argsort(order[conflicting])]
    rows = order[conflicting]
    others = np.where(sets[rows] == sets[lowest[conflicting]], highest[conflicting], lowest[conflicting])
    which = np.searchsorted(ends, rows, side="right")
    for number, part in enumerate(parts):
        mine = np.flatnonzero(which == number)
        if not len(mine):
            continue
        begin = int(ends[number] - sizes[number])
        here, there = rows[mine] - begin, others[mine]
        texts = len(np.unique(ids[rows[mine]]))

        def note(i: int, part: str = part, here: Indices = here, there: Indices = there) -> str:
            number = int(np.searchsorted(ends, there[i], side="right"))
            other, position = parts[number], int(there[i] - ends[number] + sizes[number])
            return (
                f"{context.labels.shown(part, here[i])} here, {context.labels.shown(other, position)} "
                f"in {context.where(other, position)}"
            )

        yield Finding(
            "conflicts",
            "warning",
            part,
            f"{counted(len(here), 'row')} {'shares' if len(here) == 1 else 'share'} {counted(texts, 'text')} with rows that have other labels",
            "decide which labels are right, or merge labels that people cannot tell apart",
            here,
            note,
        )
