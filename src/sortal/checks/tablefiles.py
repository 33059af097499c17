"""Rows into a file that `sortal.data.reading.read` reads again, a batch in memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sortal.data.records import Batch
from sortal.data.textcells import clean, is_missing
from sortal.errors import DataError
from sortal.training.atomic import atomic_file

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_MIXED = "write .jsonl or .csv"
Batches = Callable[[], Iterator[Batch]]


def write_table(path: Path, columns: Sequence[str], batches: Batches) -> None:
    """Write all rows in the format that the name of ``path`` ends in; the file appears when it is complete.

    Args:
        path: ends in one of `FORMATS`.
        columns: every column, in order; a row that lacks one gets an empty cell (JSON Lines: none).
        batches: gives the rows from the start; Parquet, whose types all rows decide, asks twice.

    Raises:
        ResourceError: the file cannot be written; an earlier version is intact. DataError: a column of several types, for Parquet.
    """
    kind = path.suffix.lower()
    with atomic_file(path) as temporary:
        if kind == ".parquet":
            _parquet(temporary, columns, batches)
        elif kind == ".jsonl":
            _jsonl(temporary, batches())
        else:
            _delimited(temporary, "\t" if kind == ".tsv" else ",", columns, batches())


def _delimited(path: Path, delimiter: str, columns: Sequence[str], batches: Iterator[Batch]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        for batch in batches:
            cells = [batch.columns.get(name) or [None] * batch.size for name in columns]
            writer.writerows([_written(cell) for cell in row] for row in zip(*cells, strict=True))


def _jsonl(path: Path, batches: Iterator[Batch]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            for cells in zip(*batch.columns.values(), strict=True):
                row = {
                    name: cell
                    for name, cell in zip(batch.columns, cells, strict=True)
                    if not is_missing(cell)
                }
                file.write(clean(json.dumps(row, ensure_ascii=False, default=str))[0] + "\n")


def _parquet(path: Path, columns: Sequence[str], batches: Batches) -> None:
    try:
        schema = pa.unify_schemas(
            [_table(batch, columns).schema for batch in batches()], promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"a column of a Parquet file has one type: {error}", _MIXED) from None
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches():
            writer.write_table(_table(batch, columns).cast(schema))


def _table(batch: Batch, columns: Sequence[str]) -> pa.Table:
    return pa.table({name: _array(name, batch.columns.get(name) or [None] * batch.size) for name in columns})


def _array(name: str, values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"a column of a Parquet file has one type, and {name!r} holds several: {error}", _MIXED
        ) from None


def _written(cell: Any) -> str:
    if is_missing(cell):
        return ""
    if isinstance(cell, (list, tuple, dict)):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return clean(str(cell))[0]
