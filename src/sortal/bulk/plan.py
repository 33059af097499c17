"""Shards: every input cut into bounded runs of rows, always at the same places, each with a digest of what it holds."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sortal.bulk.inputs import Input
from sortal.bulk.storage import local_copy
from sortal.data.problems import counted
from sortal.data.records import Say
from sortal.data.stream import TextStream, open_texts
from sortal.errors import DataError

SHARD_ROWS = 4096
# About as many letters as a 135 M model on one CPU core reads in some minutes: what a kill may cost.
SHARD_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Rows:
    """Ids and texts of the rows of one shard."""

    ids: list[str]
    texts: list[str]

    @property
    def digest(self) -> str:
        """128 bits of SHA-256 (hex) over ids and texts."""
        digest = hashlib.sha256()
        for column in (pa.array(self.ids, pa.large_string()), pa.array(self.texts, pa.large_string())):
            for buffer in column.buffers():
                digest.update(b"" if buffer is None else buffer)
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Shard:
    """Number of rows of a shard, and their digest."""

    rows: int
    digest: str


@dataclass(frozen=True)
class Plan:
    """An input and its shards in order.

    reading: arguments of `sortal.data.stream.open_texts`, without ``say``.
    """

    input: Input
    reading: dict[str, Any]
    shards: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """Rows of the input."""
        return sum(shard.rows for shard in self.shards)

    @property
    def digest(self) -> str:
        """128 bits of SHA-256 (hex) over the shards' digests."""
        return hashlib.sha256("".join(shard.digest for shard in self.shards).encode()).hexdigest()[:32]

    def read(self, skip: Collection[int] = ()) -> Iterator[tuple[int, Rows]]:
        """The shards, but for those with a number in ``skip``, each after its number.

        Raises:
            DataError: the file is not what it was when the plan was made.
        """
        with local_copy(self.input.source) as source:
            number = -1
            for number, rows in enumerate(cut(open_texts(source, **self.reading, say=_silent))):
                if number >= len(self.shards):
                    break
                if number in skip:
                    continue
                if rows.digest != self.shards[number].digest:
                    raise self._changed()
                yield number, rows
            if number != len(self.shards) - 1:
                raise self._changed()

    def _changed(self) -> DataError:
        return DataError(
            f"{self.input.source} changed while it was read",
            "give the same command again when it is complete",
        )


def plan(
    item: Input, reading: dict[str, Any], say: Say, *, count: Callable[[int], None] = lambda rows: None
) -> Plan:
    """Read an input once from beginning to end.

    Args:
        item: the input.
        reading: arguments of `sortal.data.stream.open_texts`, without ``say``.
        say: receives what was inferred, repaired or is suspicious.
        count: is told the rows of every shard.

    Raises:
        DataError: a file or row that cannot be read.
    """
    with local_copy(item.source) as source:
        stream = open_texts(source, **reading, say=say)
        ids = array("q")
        shards = []
        for rows in cut(stream, say):
            shards.append(Shard(len(rows.ids), rows.digest))
            if stream.has_ids:
                ids.extend(map(hash, rows.ids))
            count(len(rows.ids))
    repeated = len(ids) - len(np.unique(np.frombuffer(ids, np.int64)) if ids else ())
    if repeated:
        column = stream.chosen.id
        say(f"warning: {item.source}: column {column!r} repeats ids in {counted(repeated, 'row')}.")
    return Plan(item, reading, tuple(shards))


def cut(stream: TextStream, say: Say = lambda line: None) -> Iterator[Rows]:
    """Runs of at most `SHARD_ROWS` rows; one ends early with the row that brings it to `SHARD_CHARACTERS`."""
    ids: list[str] = []
    texts: list[str] = []
    size = 0
    for some_ids, some_texts in stream.batches(say):
        for id_, text in zip(some_ids, some_texts, strict=True):
            ids.append(id_)
            texts.append(text)
            size += len(text)
            if len(ids) >= SHARD_ROWS or size >= SHARD_CHARACTERS:
                yield Rows(ids, texts)
                ids, texts, size = [], [], 0
    if ids:
        yield Rows(ids, texts)


def _silent(line: str) -> None:
    """What was said while planning is not said again."""


def total(plans: Iterable[Plan]) -> int:
    """Rows of all inputs."""
    return sum(each.rows for each in plans)
