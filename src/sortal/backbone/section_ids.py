"""The tokens of each section of a text, as they are where the sections stand one per line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SectionIds:
    """ids: int32 ``[tokens]``; lead: how many of them are the border before the section, kept whatever else is cut."""

    ids: Ints
    lead: int


def encode_sections(
    tokenizer: Any, context: str, lead: str, texts: Sequence[Sequence[str]]
) -> list[list[SectionIds]]:
    """Tokens of every section of ``texts``, which have as many each; a blank section has none.

    A text is encoded whole, its sections joined by line breaks, so that uncut it is the same tokens as plain text. A token that
    spans a border belongs to what comes after it.

    Args:
        context, lead: what stands before every text; see `sortal.backbone.encoding.TextEncoder`.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    filled = [[i for i, section in enumerate(sections) if section.strip()] or [0] for sections in texts]
    pieces = [
        [
            ("\n" if place else lead) + (sections[i] if sections[i].strip() else "")
            for place, i in enumerate(own)
        ]
        for sections, own in zip(texts, filled, strict=True)
    ]
    encoded = _encode(backend, context, ["".join(own) for own in pieces])
    return [
        _by_section(len(sections), own, [len(piece) for piece in lengths], *tokens)
        for sections, own, lengths, tokens in zip(texts, filled, pieces, encoded, strict=True)
    ]


def _by_section(
    count: int, filled: Sequence[int], lengths: Sequence[int], ids: Ints, ends: npt.NDArray[np.int64]
) -> list[SectionIds]:
    """The tokens of ``count`` sections, of which those in ``filled`` stand behind each other in a text.

    Args:
        lengths: characters of each, the line break before it included.
        ends: where in the text each token ends.
    """
    borders = np.array([0, *accumulate(lengths)][:-1], np.int64)
    owner = np.searchsorted(borders, ends - 1, side="right") - 1
    found = [SectionIds(np.zeros(0, np.int32), 0) for _ in range(count)]
    for place, i in enumerate(filled):
        mine = owner == place
        found[i] = SectionIds(ids[mine], int((ends[mine] <= borders[place] + 1).sum()) if place else 0)
    return found


def _encode(backend: Any, context: str, texts: Sequence[str]) -> list[tuple[Ints, npt.NDArray[np.int64]]]:
    """Ids of each text after ``context``, and where in the text each token ends."""
    before = backend.encode(context, add_special_tokens=False).ids if context else []
    found = []
    for text, encoded in zip(
        texts, backend.encode_batch([context + text for text in texts], add_special_tokens=False), strict=True
    ):
        skip, start = len(before), len(context)
        if encoded.ids[:skip] != before:  # the tokenizer merges across the border
            encoded, skip, start = backend.encode(text, add_special_tokens=False), 0, 0
        # A character of several tokens ends in each of them.
        ends = np.array([end for _, end in encoded.offsets[skip:]], np.int64) - start
        found.append((np.array(encoded.ids[skip:], np.int32), ends.clip(min=1)))
    return found
