"""Texts without content, with hardly any, and with more than would be read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sortal.checks.base import CheckContext, Finding
from sortal.checks.remedies import Drop
from sortal.data.dataset import Indices
from sortal.data.problems import counted

_FEW_CHARACTERS = 3
# Against the middle text: what an unclosed quote or two documents in one cell look like.
_OUTLIER, _OUTLIER_WORDS = 50, 500
_IDEOGRAPHS = "\u2e80"  # from here on one character may say as much as a word, and so may an emoji
_MANY_CUT = 0.05


def check(context: CheckContext) -> Iterator[Finding]:
    """Every part for itself."""
    for part in context.parts:
        content = _content(context, part)
        empty, short = (
            np.flatnonzero(content == 0),
            np.flatnonzero((content > 0) & (content < _FEW_CHARACTERS)),
        )
        if len(empty):
            yield _empty(context, part, empty.astype(np.int64))
        if len(short):
            yield _short(context, part, short.astype(np.int64))
        lengths = context.unit.lengths(context.texts(part, f"counting {context.unit.name}"))
        find = _outliers if context.max_length is None else _cut
        found = find(context, part, lengths)
        if found:
            yield found


def _content(context: CheckContext, part: str) -> npt.NDArray[np.int64]:
    """Visible characters of each text, int64 ``[rows]``; counted up to `_FEW_CHARACTERS`, which is all that matters."""
    found = np.empty(len(context.parts[part]), np.int64)
    for position, text in enumerate(context.texts(part, "measuring texts")):
        visible = 0
        for character in text:
            # Zero-width characters and other formats are not printable; white space is not content.
            if character.isprintable() and not character.isspace():
                visible += 1 if character < _IDEOGRAPHS else _FEW_CHARACTERS
            if visible >= _FEW_CHARACTERS:
                break
        found[position] = visible
    return found


def _empty(context: CheckContext, part: str, rows: Indices) -> Finding:
    return Finding(
        "text-length",
        "warning",
        part,
        f"{_share(context, part, rows)} {'has' if len(rows) == 1 else 'have'} no text",
        "fill in or remove them: nothing can be learned from an empty text",
        rows,
        lambda i: context.labels.shown(part, int(rows[i])),
        remedies=(Drop(rows, lambda i: "no text"),) if part == "train" else (),
    )


def _short(context: CheckContext, part: str, rows: Indices) -> Finding:
    return Finding(
        "text-length",
        "note",
        part,
        f"{_share(context, part, rows)} {'has' if len(rows) == 1 else 'have'} fewer than {_FEW_CHARACTERS} visible characters",
        "check that they are texts and not remains of something else",
        rows,
        lambda i: context.labels.shown(part, int(rows[i])),
    )


def _outliers(context: CheckContext, part: str, lengths: Indices) -> Finding | None:
    middle = float(np.median(lengths))
    rows = np.flatnonzero(lengths > max(_OUTLIER * middle, _OUTLIER_WORDS)).astype(np.int64)
    if not len(rows):
        return None
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    return Finding(
        "text-length",
        "note",
        part,
        f"{_share(context, part, rows)} {'is' if len(rows) == 1 else 'are'} more than {_OUTLIER} times as long as the middle text "
        f"({middle:,.0f} {context.unit.name})",
        "check for texts run together, such as by a quote that is never closed; --max-length shows what would be cut",
        rows,
        lambda i: f"{lengths[rows[i]]:,} {context.unit.name}",
    )


def _cut(context: CheckContext, part: str, lengths: Indices) -> Finding | None:
    limit = context.max_length or 0
    rows = np.flatnonzero(lengths > limit).astype(np.int64)
    if not len(rows):
        return None
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    lost = int((lengths[rows] - limit).sum()) / max(int(lengths.sum()), 1)
    long = int(np.quantile(lengths, 0.99, method="higher"))
    return Finding(
        "text-length",
        "warning" if len(rows) > _MANY_CUT * len(context.parts[part]) else "note",
        part,
        f"{_share(context, part, rows)} would be cut at {limit:,} {context.unit.name}{context.unit.beside}, {lost:.1%} of all {context.unit.name}; "
        f"median {np.median(lengths):,.0f}, 99 % {long:,}, longest {lengths.max():,}",
        "raise --max-length, or choose with --truncation what a long text keeps (head, tail, head+tail)",
        rows,
        lambda i: f"{lengths[rows[i]]:,} {context.unit.name}",
    )


def _share(context: CheckContext, part: str, rows: Indices) -> str:
    return f"{counted(len(rows), 'row')} ({len(rows) / len(context.parts[part]):.1%})"
