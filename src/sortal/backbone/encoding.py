"""Texts to token ids, once, for training, evaluation, prediction and serving alike."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.backbone.longtexts import PLAIN, LongTexts
from sortal.backbone.section_ids import SectionIds, encode_sections
from sortal.backbone.template import Template
from sortal.data.sections import plain_text, split_sections

_BATCH = 1024
Ints = npt.NDArray[np.int32]


class EncodedTexts(Sequence[Ints]):
    """Token ids of many texts, templates included, in one flat memory-mapped array.

    flat: int32 ``[tokens]``; offsets: int64 ``[windows + 1]``; truncated: how many texts were cut.
    firsts: int64 ``[texts + 1]``, the first window of every text; None where each is one window.
    section_cuts: how many texts lost a part of a section, by its name.
    beginning: ids that stand before every window and are not in it, because a pack of windows reads them once.
    """

    def __init__(
        self,
        flat: Ints,
        offsets: npt.NDArray[np.int64],
        truncated: int,
        firsts: npt.NDArray[np.int64] | None = None,
        section_cuts: Mapping[str, int] | None = None,
        beginning: Sequence[int] = (),
    ) -> None:
        self.flat, self.offsets, self.truncated = flat, offsets, truncated
        self.firsts, self.section_cuts = firsts, dict(section_cuts or {})
        self.beginning = tuple(beginning)
        ends = offsets if firsts is None else offsets[firsts]
        self.lengths: npt.NDArray[np.int64] = np.diff(ends)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        """Ids of a text; of one in several windows, those of its first."""
        first = index if self.firsts is None else int(self.firsts[index])
        return self.flat[self.offsets[first] : self.offsets[first + 1]]

    @cached_property
    def unrolled(self) -> EncodedTexts:
        """Every window as a text of its own."""
        if self.firsts is None:
            return self
        return EncodedTexts(self.flat, self.offsets, self.truncated, beginning=self.beginning)

    def windows_of(self, texts: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions in `unrolled` of the windows of ``texts``, in their order."""
        if self.firsts is None:
            return np.asarray(texts, np.int64)
        runs = [np.arange(self.firsts[i], self.firsts[i + 1]) for i in texts]
        return np.concatenate(runs) if runs else np.zeros(0, np.int64)

    def owners(self, texts: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Of each of those windows, the place of its text in ``texts``."""
        places, rows = np.arange(len(texts)), np.asarray(texts, np.int64)
        if self.firsts is None:
            return places
        return np.repeat(places, self.firsts[rows + 1] - self.firsts[rows])

    @property
    def tokens(self) -> int:
        """Real tokens in all texts, without their `beginning`."""
        return int(self.offsets[-1])


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read of one text before it is cut into windows.

    ids: int32 ``[tokens]``. truncated: whether it is less than the text. sections: of each section, how many tokens are kept and
    how many there were; empty for a text without sections.
    """

    ids: Ints
    truncated: bool
    sections: tuple[tuple[Ints, int], ...] = ()


@dataclass(frozen=True)
class TextEncoder:
    """Applies template and truncation. Equal to ``tokenizer(text, truncation=True)`` for ``head`` and ``tail``.

    lead: white space that belongs to every text's first token. context: what stands before it, so that a text gets the tokens
    it has there; neither is counted among the text's own tokens. long: how sections and windows are read. shared: whether what the
    template puts before a text becomes the `EncodedTexts.beginning`.

    Raises:
        ConfigError: windows without room for anything new.
    """

    tokenizer: Any
    template: Template
    max_length: int
    truncation: str
    lead: str = ""
    context: str = ""
    long: LongTexts = field(default=PLAIN)
    shared: bool = False

    def __post_init__(self) -> None:
        self.long.capacity(self.room)

    @property
    def room(self) -> int:
        """Tokens of text in a window."""
        return self.max_length - self.template.extra

    @property
    def hash(self) -> str:
        """Of template, sections and windows: two encoders with equal hashes read texts alike."""
        return self.long.hash(self.template.hash)

    def encode(self, texts: Iterable[str]) -> EncodedTexts:
        """Encode a stream of texts; ids go to an unlinked temporary file, so memory holds one batch of texts only."""
        beginning = self.template.prefix if self.shared else ()
        prefix = np.array(() if self.shared else self.template.prefix, dtype=np.int32)
        suffix = np.array(self.template.suffix, dtype=np.int32)
        offsets, firsts, truncated, total = [0], [0], 0, 0
        cuts: Counter[str] = Counter(dict.fromkeys(self.long.names, 0))
        stream = iter(texts)
        with tempfile.TemporaryFile() as file:
            while batch := list(islice(stream, _BATCH)):
                chunks = []
                for reading in self.read(batch):
                    truncated += reading.truncated
                    for name, (kept, whole) in zip(self.long.names, reading.sections, strict=False):
                        cuts[name] += len(kept) < whole
                    for ids in self.long.cut_windows(reading.ids, self.room):
                        chunks += [prefix, ids, suffix]
                        total += len(prefix) + len(ids) + len(suffix)
                        offsets.append(total)
                    firsts.append(len(offsets) - 1)
                file.write(np.concatenate(chunks).tobytes())
            file.flush()
            flat = np.memmap(file, dtype=np.int32, mode="r") if total else np.zeros(0, dtype=np.int32)
        several = np.array(firsts, np.int64) if self.long.windows > 1 else None
        return EncodedTexts(flat, np.array(offsets, dtype=np.int64), truncated, several, cuts, beginning)

    def read(self, texts: Sequence[str]) -> Iterator[Reading]:
        """What is read of each of ``texts``; one without this model's sections is read as plain text."""
        room = self.long.capacity(self.room)
        if not self.long.sections:
            yield from self._of_plain(texts, room)
            return
        parts = [split_sections(text, len(self.long.sections)) for text in texts]
        made = [sections for sections in parts if sections is not None]
        others = [plain_text(text) for text, part in zip(texts, parts, strict=True) if part is None]
        of_sections = iter(encode_sections(self.tokenizer, self.context, self.lead, made))
        of_plain = self._of_plain(others, room)
        for part in parts:
            yield next(of_plain) if part is None else self._of_sections(next(of_sections), room)

    def _of_plain(self, texts: Sequence[str], room: int) -> Iterator[Reading]:
        for found in encode_after(self.tokenizer, self.context, [self.lead + text for text in texts]):
            ids = np.array(found, dtype=np.int32)
            longer = len(ids) > room
            yield Reading(cut(ids, room, self.truncation) if longer else ids, longer)

    def _of_sections(self, sections: Sequence[SectionIds], room: int) -> Reading:
        lengths = [len(section.ids) for section in sections]
        kept = []
        for section, n in zip(sections, self.long.allot(lengths, room), strict=True):
            border, own = np.split(section.ids, [section.lead])
            if n == len(section.ids):
                kept.append(section.ids)
            elif n <= section.lead:  # a border before nothing
                kept.append(section.ids[:0])
            else:
                kept.append(np.concatenate([border, cut(own, n - section.lead, self.truncation)]))
        ids = np.concatenate(kept)
        return Reading(ids, len(ids) < sum(lengths), tuple(zip(kept, lengths, strict=True)))


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


def encode_literal(tokenizer: Any, context: str, text: str) -> list[int]:
    """Ids of a part of a template right after ``context``; its special tokens are meant as such.

    Line ends at its end are encoded as before a word, for that is what comes next: many vocabularies have a token for a blank
    line that ends a string, and two for one in front of a word.
    """
    (ids,) = encode_after(tokenizer, context, [text], special=True)
    if not text[-1:].isspace():
        return ids
    (longer,) = encode_after(tokenizer, context, [text + "x"], special=True)
    (word,) = encode_after(tokenizer, text[-1:], ["x"], special=True)
    return longer[: -len(word)] if longer[-len(word) :] == word else ids


def cut(ids: npt.NDArray[np.int32], room: int, policy: str) -> npt.NDArray[np.int32]:
    """The ``room`` ids that ``policy`` keeps: the first ones, the last ones, or half of each."""
    if policy == "head":
        return ids[:room]
    if policy == "tail":
        return ids[len(ids) - room :]
    front = (room + 1) // 2
    return np.concatenate([ids[:front], ids[len(ids) - (room - front) :]])
