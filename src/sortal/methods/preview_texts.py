"""What ``--dry-run`` shows of texts that become tokens inside a template: their sections and every window, decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.methods.preview import TokenPreview, TokenRow

About = Callable[[list[int]], tuple[list[int], str]]
"""Of a window's ids: the positions that are read, and what happens there, in words."""


def preview_texts(
    encoder: TextEncoder, texts: EncodedTexts, first: Sequence[str], about: About
) -> TokenPreview:
    """The first texts of ``texts``, encoded; ``first`` are they as strings."""
    decode, rows = encoder.tokenizer.decode, []
    for row, sections in enumerate(section_lines(encoder, first)):
        windows = [[*texts.beginning, *texts.unrolled[i].tolist()] for i in texts.windows_of([row])]
        read, words = about(windows[0])
        shown = [(ids, decode(ids)) for ids in windows]
        rows.append(TokenRow(row, *shown[0], read, words, sections, tuple(shown[1:])))
    longest, shared = int(texts.lengths.max(initial=0)), len(texts.beginning)
    return token_preview(
        rows, texts, encoder, texts.tokens, encoder.max_length, encoder.hash, longest, shared
    )


def token_preview(
    rows: list[TokenRow],
    texts: EncodedTexts,
    encoder: TextEncoder,
    tokens: int,
    max_length: int,
    hash_: str,
    longest: int,
    shared: int = 0,
) -> TokenPreview:
    """``rows``, and the totals over ``texts``; see `TokenPreview`."""
    windows = len(texts.unrolled)
    several = 0 if texts.firsts is None else int((np.diff(texts.firsts) > 1).sum())
    most = encoder.long.windows
    return TokenPreview(
        rows,
        tokens,
        texts.truncated,
        max_length,
        hash_,
        longest,
        shared,
        most,
        windows,
        several,
        texts.section_cuts,
    )


def section_lines(encoder: TextEncoder, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Of each text, a line for each section: how much of it is kept, and that part decoded; none for a text without sections."""
    decode, names = encoder.tokenizer.decode, encoder.long.names
    return [
        tuple(
            f"{name}: {len(kept)} of {whole} tokens, {decode(kept)!r}"
            for name, (kept, whole) in zip(names, reading.sections, strict=False)
        )
        for reading in encoder.read(texts)
    ]
