"""Texts to token ids, once, for training, evaluation, prediction and serving alike."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.backbone.template import Template

_BATCH = 1024


class EncodedTexts(Sequence[npt.NDArray[np.int32]]):
    """Token ids of many texts, templates included, in one flat memory-mapped array.

    flat: int32 ``[tokens]``; offsets: int64 ``[texts + 1]``; truncated: how many texts were cut.
    """

    def __init__(self, flat: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], truncated: int) -> None:
        self.flat, self.offsets, self.truncated = flat, offsets, truncated
        self.lengths: npt.NDArray[np.int64] = np.diff(offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    @property
    def tokens(self) -> int:
        """Real tokens in all texts."""
        return int(self.offsets[-1])


@dataclass(frozen=True)
class TextEncoder:
    """Applies template and truncation. Equal to ``tokenizer(text, truncation=True)`` for ``head`` and ``tail``.

    lead: white space that belongs to every text's first token. context: what stands before it, so that a text gets the tokens
    it has there; neither is counted among the text's own tokens.
    """

    tokenizer: Any
    template: Template
    max_length: int
    truncation: str
    lead: str = ""
    context: str = ""

    def encode(self, texts: Iterable[str]) -> EncodedTexts:
        """Encode a stream of texts; ids go to an unlinked temporary file, so memory holds one batch of texts only."""
        room = self.max_length - self.template.extra
        prefix = np.array(self.template.prefix, dtype=np.int32)
        suffix = np.array(self.template.suffix, dtype=np.int32)
        offsets, truncated, total = [0], 0, 0
        stream = iter(texts)
        with tempfile.TemporaryFile() as file:
            while batch := list(islice(stream, _BATCH)):
                chunks = []
                for text_ids in encode_after(self.tokenizer, self.context, [self.lead + t for t in batch]):
                    ids = np.array(text_ids, dtype=np.int32)
                    if len(ids) > room:
                        truncated += 1
                        ids = cut(ids, room, self.truncation)
                    chunks += [prefix, ids, suffix]
                    total += len(prefix) + len(ids) + len(suffix)
                    offsets.append(total)
                file.write(np.concatenate(chunks).tobytes())
            file.flush()
            flat = np.memmap(file, dtype=np.int32, mode="r") if total else np.zeros(0, dtype=np.int32)
        return EncodedTexts(flat, np.array(offsets, dtype=np.int64), truncated)


def encode_after(
    tokenizer: Any, context: str, texts: Sequence[str], *, special: bool = False
) -> list[list[int]]:
    """Ids of ``texts`` as they are encoded right after ``context``, whose own ids are left out.

    Where the tokenizer merges across the border, the text is encoded alone. Special tokens inside a text are plain characters
    unless ``special``.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = not special

    def encode(batch: list[str]) -> list[list[int]]:
        return [e.ids for e in backend.encode_batch_fast(batch, add_special_tokens=False)]

    if not context:
        return encode(list(texts))
    before = encode([context])[0]
    found = encode([context + text for text in texts])
    return [
        ids[len(before) :] if ids[: len(before)] == before else encode([text])[0]
        for ids, text in zip(found, texts, strict=True)
    ]


def cut(ids: npt.NDArray[np.int32], room: int, policy: str) -> npt.NDArray[np.int32]:
    """The ``room`` ids that ``policy`` keeps: the first ones, the last ones, or half of each."""
    if policy == "head":
        return ids[:room]
    if policy == "tail":
        return ids[len(ids) - room :]
    front = (room + 1) // 2
    return np.concatenate([ids[:front], ids[len(ids) - (room - front) :]])
