"""Ids and texts of a file for prediction, batch by batch: memory stays at one batch, and the file can be read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sortal.data.columns import Selection, select
from sortal.data.files import open_source
from sortal.data.records import Batch, RecordSource, Say
from sortal.data.textcells import TextJoiner, clean, is_missing


@dataclass(frozen=True)
class TextStream:
    """The texts of a source; made by `open_texts`.

    Args:
        records: the open source.
        chosen: its columns.
        template: how several text columns are joined; None joins them by line breaks.
        prefix: stands before a row number that serves as id.
    """

    records: RecordSource
    chosen: Selection
    template: str | None
    prefix: str

    @property
    def has_ids(self) -> bool:
        """Whether rows have ids of their own."""
        return self.chosen.id is not None

    def batches(self, say: Say) -> Iterator[tuple[list[str], list[str]]]:
        """(ids, texts) of consecutive rows; at the end ``say`` is told what was repaired.

        Raises:
            DataError: a row that cannot be read, naming the first five.
        """
        joiner = TextJoiner(self.records.name, self.chosen.text, self.template)
        for batch in self.records.batches(self.chosen.columns):
            yield row_ids(batch, self.chosen.id, self.prefix), joiner.join(batch)
        joiner.report(say)


def open_texts(
    source: str | Path,
    *,
    text: Sequence[str] = (),
    text_template: str | None = None,
    id: str | None = None,
    label: str | None = None,
    prefix: str = "",
    say: Say,
) -> TextStream:
    """The texts of ``source`` as `sortal.data.reading.read` with ``need_labels=False`` reads them.

    Args:
        source: as for `sortal.data.reading.read`.
        text: text column(s); found by name when empty.
        text_template: how several text columns are joined.
        id: column with a row id; default the 1-based row number.
        label: column of labels, which is not taken for text.
        prefix: put before row numbers, where rows of several files meet.
        say: receives one sentence for everything inferred.

    Raises:
        DataError: no such file, no such column, or a file that cannot be read.
    """
    records = open_source(source, say)
    peek = next(records.batches(), None) or Batch({name: [] for name in records.columns}, 0, 1)
    chosen = select(
        records,
        peek,
        text=(text,) if isinstance(text, str) else text,
        text_template=text_template,
        label=label,
        label_columns=(),
        id=id,
        group=None,
        need_labels=False,
        say=say,
    )
    return TextStream(records, chosen, text_template, prefix)


def row_ids(batch: Batch, column: str | None, prefix: str = "") -> list[str]:
    """The cells of ``column``, and for rows without one (or without a column) the 1-based row number after ``prefix``."""
    numbers = range(batch.first_row, batch.first_row + batch.size)
    values = [None] * batch.size if column is None else batch.columns.get(column) or [None] * batch.size
    return [
        f"{prefix}{number}" if is_missing(value) or value == "" else clean(str(value))[0]
        for number, value in zip(numbers, values, strict=True)
    ]
