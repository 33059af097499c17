"""A run of files becomes one stored shard: its rows as Arrow, and beside them what was counted and noted."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sortal.bulk.work import Place, Work
from sortal.data.wipo.layout import RecordFile
from sortal.data.wipo.record import MAX_BYTES, RecordError, parse_record
from sortal.data.wipo.rows import SCHEMA, make_row

SHARD_FILES = 512
SHARD_BYTES = 32 << 20  # bounds a worker's memory, whatever the size of the files
_KEY = b"sortal"


@dataclass(frozen=True)
class Job:
    """One shard to convert: files below ``root``, in order."""

    work: Work
    place: Place
    root: str
    files: tuple[RecordFile, ...]
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """A finished shard.

    Attributes:
        rows: in the order of the files.
        counted: how many rows have something missing, by kind.
        problems: ``{"file", "kind", "what", "row"}`` of files that gave no row (``row`` false) and of rows that contradict themselves.
    """

    rows: pa.Table
    counted: Counter[str]
    problems: list[dict[str, Any]]


def cut(files: Sequence[RecordFile]) -> Iterator[tuple[RecordFile, ...]]:
    """Runs of at most `SHARD_FILES` files; one ends early with the file that brings it to `SHARD_BYTES`."""
    run: list[RecordFile] = []
    size = 0
    for file in files:
        run.append(file)
        size += min(file.size, MAX_BYTES)
        if len(run) >= SHARD_FILES or size >= SHARD_BYTES:
            yield tuple(run)
            run, size = [], 0
    if run:
        yield tuple(run)


def convert(job: Job) -> tuple[Place, int]:
    """Read the files, keep the shard, and answer its place and how many files it took.

    Raises:
        ResourceError: the disk is full.
    """
    rows: list[dict[str, Any]] = []
    counted: Counter[str] = Counter()
    problems: list[dict[str, Any]] = []
    for file in job.files:
        try:
            row = make_row(parse_record(_bytes(Path(job.root) / file.path, file)), file, job.languages)
        except RecordError as error:
            problems.append({"file": file.shown, "kind": error.kind, "what": error.what, "row": False})
            continue
        rows.append(row.values)
        counted.update(row.counted)
        problems += [
            {"file": file.shown, "kind": kind, "what": what, "row": True} for kind, what in row.notes
        ]
    about = json.dumps({"counted": counted, "problems": problems})
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({_KEY: about}))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    job.work.store(job.place, sink.getvalue())
    return job.place, len(job.files)


def read_shard(work: Work, place: Place) -> Shard:
    """What `convert` kept."""
    table = pa.ipc.open_file(pa.BufferReader(work.shard(place))).read_all()
    about = json.loads(table.schema.metadata[_KEY])
    return Shard(table.replace_schema_metadata(None), Counter(about["counted"]), about["problems"])


def _bytes(path: Path, file: RecordFile) -> bytes:
    if file.size > MAX_BYTES:
        raise RecordError("too large", f"{file.size:,} bytes are more than {MAX_BYTES:,}")
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecordError("unreadable", f"it cannot be read: {error.strerror}") from None
