"""Texts with labels, as an immutable view over a memory-mapped Arrow table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sortal.data.schema import Schema, Task

Labels = tuple[str, ...]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of text, in the order of their source; never changed, never reordered except by `take`.

    Args:
        backing: columns ``id`` string, ``row`` int64 (1-based data row in the source), ``text`` large_string and, where
            they exist, ``labels`` list<string> (one element in single-label data) and ``group`` string.
        source: the path or hub id as given, for messages.
        schema: the columns it was read from.
        label_names: the label order the source itself declares (hub ClassLabel, label_columns), or None.
        index: the rows of ``backing`` this view shows, or None for all.
        parent_of: the parent of every node that the source itself declares (level_columns), None at the top level; or None.
    """

    backing: pa.Table
    source: str
    schema: Schema = field(default_factory=Schema)
    label_names: tuple[str, ...] | None = None
    index: Indices | None = None
    parent_of: Mapping[str, str | None] | None = None

    @classmethod
    def from_lists(
        cls,
        texts: Sequence[str],
        labels: Sequence[Labels] | None = None,
        *,
        ids: Sequence[str] | None = None,
        groups: Sequence[str | None] | None = None,
        task: Task | None = None,
        label_names: tuple[str, ...] | None = None,
        source: str = "memory",
    ) -> Dataset:
        """A data set from Python lists of equal length."""
        columns: dict[str, pa.Array] = {
            "id": pa.array(
                list(ids) if ids is not None else [str(row) for row in range(1, len(texts) + 1)], pa.string()
            ),
            "row": pa.array(range(1, len(texts) + 1), pa.int64()),
            "text": pa.array(list(texts), pa.large_string()),
        }
        if labels is not None:
            columns["labels"] = pa.array([list(row) for row in labels], pa.list_(pa.string()))
        if groups is not None:
            columns["group"] = pa.array(list(groups), pa.string())
        return cls(pa.table(columns), source, Schema(task=task), label_names)

    def __len__(self) -> int:
        return self.backing.num_rows if self.index is None else len(self.index)

    @property
    def table(self) -> pa.Table:
        """The rows of this view as an Arrow table; a subset is copied into memory."""
        return self.backing if self.index is None else self.backing.take(pa.array(self.index))

    @property
    def task(self) -> Task | None:
        """``single`` or ``multi`` when labels were read."""
        return self.schema.task

    @property
    def texts(self) -> list[str]:
        """All texts; for large data prefer `text_at` or `iter_texts`."""
        return self._values("text")

    @property
    def ids(self) -> list[str]:
        """The id of every row."""
        return self._values("id")

    @cached_property
    def rows(self) -> Indices:
        """1-based data-row numbers in the source, int64 [n]."""
        rows: Indices = self.backing.column("row").to_numpy().astype(np.int64)
        return rows if self.index is None else rows[self.index]

    @cached_property
    def labels(self) -> list[Labels] | None:
        """The label strings of every row, or None when the data has no labels."""
        if "labels" not in self.backing.column_names:
            return None
        return [tuple(row) for row in self._values("labels")]

    @cached_property
    def groups(self) -> list[str | None] | None:
        """The group of every row, or None when no group column was asked for."""
        return self._values("group") if "group" in self.backing.column_names else None

    def text_at(self, indices: Sequence[int] | Indices) -> list[str]:
        """The texts at ``indices`` (0-based, into this view) without reading the others."""
        wanted = np.asarray(indices, np.int64)
        if self.index is not None:
            wanted = self.index[wanted]
        return self._pick("text", wanted)

    def iter_texts(self, batch_size: int = 1_000) -> Iterator[str]:
        """All texts in order, a batch at a time in memory."""
        for start in range(0, len(self), batch_size):
            yield from self.text_at(np.arange(start, min(start + batch_size, len(self))))

    def take(self, indices: Sequence[int] | Indices) -> Dataset:
        """The rows at ``indices`` (0-based, into this view) in that order; copies no text."""
        chosen = np.asarray(indices, np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"indices must lie in [0, {len(self)})")
        return replace(self, index=chosen if self.index is None else self.index[chosen])

    def with_labels(self, labels: Sequence[Labels]) -> Dataset:
        """The same rows with other labels, one tuple per row of this view."""
        column, table = pa.array([list(row) for row in labels], pa.list_(pa.string())), self.table
        position = table.column_names.index("labels")
        return replace(self, backing=table.set_column(position, "labels", column), index=None)

    def without_labels(self) -> Dataset:
        """The same rows as if they had been read for prediction."""
        names = [name for name in self.backing.column_names if name != "labels"]
        return replace(self, backing=self.backing.select(names), label_names=None)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over texts and labels in order; equal for equal content whatever the file format."""
        digest = hashlib.sha256()
        labels = self.labels
        for position, text in enumerate(self.iter_texts()):
            row = () if labels is None else labels[position]
            for part in (text, *row):
                data = part.encode("utf-8")
                digest.update(len(data).to_bytes(8, "little") + data)
            digest.update(b"-" if labels is None else len(row).to_bytes(8, "little"))
        return digest.hexdigest()

    def _values(self, column: str) -> list:  # type: ignore[type-arg]
        if self.index is None:
            return self.backing.column(column).to_pylist()  # type: ignore[no-any-return]
        return self._pick(column, self.index)

    def _pick(self, column: str, wanted: Indices) -> list:  # type: ignore[type-arg]
        # ChunkedArray.take may concatenate all chunks first; that would pull a large file into memory.
        chunked = self.backing.column(column)
        offsets = np.cumsum([0] + [len(chunk) for chunk in chunked.chunks])
        numbers = np.searchsorted(offsets, wanted, side="right") - 1
        chunks = chunked.chunks
        return [
            chunks[number][position].as_py()
            for number, position in zip(numbers.tolist(), (wanted - offsets[numbers]).tolist(), strict=True)
        ]
