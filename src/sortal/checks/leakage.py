"""Rows of dev or test whose text, or nearly, was trained on: figures on them are too good."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sortal.checks.base import CheckContext, Finding, NotChecked
from sortal.checks.reach import reached
from sortal.checks.remedies import Drop
from sortal.data.dataset import Indices
from sortal.data.problems import counted

_ADVICE = {
    "train": "remove these texts from the training rows, or measure without them",
    "dev": "keep such rows in one of the two: settings chosen on dev fit them better than new texts",
}


def check(context: CheckContext) -> Iterator[Finding]:
    """Test against train and dev, dev against train; equal texts first, then near-duplicates among the others.

    Raises:
        NotChecked: there is only a training file.
    """
    if not context.others:
        raise NotChecked("there is no dev or test file to compare with (--dev, --test)")
    for seen, part in _pairs(list(context.parts)):
        exact, source = equal(context, seen, part)
        if len(exact):
            yield _exact(context, seen, part, exact, source)
        near, source, likeness = alike(context, seen, part)
        if len(near):
            yield _near(context, seen, part, near, source, likeness)


def equal(context: CheckContext, seen: str, part: str) -> tuple[Indices, Indices]:
    """Rows of ``part`` whose text occurs in ``seen``, and the first row there, positions int64 ``[k]``."""
    ids = context.text_ids
    source = ids.first(seen)[ids.by_part[part]]
    rows = np.flatnonzero((source >= 0) & (ids.by_part[part] != ids.empty)).astype(np.int64)
    return rows, source[rows]


def alike(context: CheckContext, seen: str, part: str) -> tuple[Indices, Indices, npt.NDArray[np.float64]]:
    """Rows of ``part`` with a near-duplicate but no equal text in ``seen``; the row there that is most alike; how alike.

    Positions int64 ``[k]`` twice and similarities float64 ``[k]``, the most alike first.
    """
    ids, near = context.text_ids, context.near
    first = ids.first(seen)
    best = np.zeros(ids.count)
    source = np.full(ids.count, -1, np.int64)
    order = np.argsort(near.similarity, kind="stable")  # the most alike is written last, and stays
    for here, there in ((0, 1), (1, 0)):
        pairs = order[first[near.texts[order, there]] >= 0]
        better = pairs[near.similarity[pairs] > best[near.texts[pairs, here]]]
        best[near.texts[better, here]] = near.similarity[better]
        source[near.texts[better, here]] = first[near.texts[better, there]]
    mine = ids.by_part[part]
    paired = np.zeros(ids.count, bool)
    paired[near.texts] = True
    left = paired & (source < 0) & (first < 0) & (ids.first(part) >= 0)
    if left.any():
        texts, led_to, likeness = reached(context, seen, part, np.flatnonzero(left).astype(np.int64))
        source[texts], best[texts] = first[led_to], likeness
    rows = np.flatnonzero((source[mine] >= 0) & (first[mine] < 0)).astype(np.int64)
    rows = rows[np.argsort(-best[mine[rows]], kind="stable")]
    return rows, source[mine[rows]], best[mine[rows]]


def _exact(context: CheckContext, seen: str, part: str, rows: Indices, source: Indices) -> Finding:
    remedies = (_drop(context, part, rows),) if seen == "train" else ()
    return Finding(
        "leakage",
        "error" if seen == "train" else "warning",
        part,
        f"{_share(context, part, rows)} {'has a text' if len(rows) == 1 else 'have texts'} of {context.name(seen)}",
        _ADVICE[seen],
        rows,
        lambda i: f"the text of {context.where(seen, source[i])}",
        remedies=remedies,
    )


def _near(
    context: CheckContext,
    seen: str,
    part: str,
    rows: Indices,
    source: Indices,
    likeness: npt.NDArray[np.float64],
) -> Finding:
    return Finding(
        "leakage",
        "warning",
        part,
        f"{_share(context, part, rows)} {'is' if len(rows) == 1 else 'are'} nearly the same as texts of {context.name(seen)}",
        "look at the pairs: figures on rows that only repeat training rows in other words are too good"
        if seen == "train"
        else _ADVICE[seen],
        rows,
        lambda i: f"{likeness[i]:.0%} of {context.where(seen, source[i])}",
    )


def _drop(context: CheckContext, part: str, rows: Indices) -> Drop:
    """The training rows that have the text of ``rows`` of ``part``."""
    ids = context.text_ids
    held = ids.first(part)[ids.by_part["train"]]
    leaked = np.zeros(ids.count, bool)
    leaked[ids.by_part[part][rows]] = True
    dropped = np.flatnonzero(leaked[ids.by_part["train"]]).astype(np.int64)
    return Drop(dropped, lambda i: f"its text is in {context.where(part, held[dropped[i]])}")


def _share(context: CheckContext, part: str, rows: Indices) -> str:
    return f"{counted(len(rows), 'row')} ({len(rows) / len(context.parts[part]):.1%})"


def _pairs(parts: list[str]) -> Iterator[tuple[str, str]]:
    for number, part in enumerate(parts):
        for seen in parts[:number]:
            yield seen, part
