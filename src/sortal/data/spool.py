"""Rows on their way to disk: an Arrow IPC file in a temporary folder, memory-mapped once complete."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from sortal.errors import ResourceError


class Spool:
    """Writes tables to a temporary folder; what `mapped` returned stays readable, the files go by themselves.

    Use as a context manager. Memory stays at one batch; set TMPDIR to choose the disk.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sortal-"))
        self._mapped: list[pa.Table] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # POSIX keeps the bytes of an unlinked file until its last mapping goes, even if the process is killed.
            shutil.rmtree(self._folder)
        except OSError:
            for table in self._mapped:
                weakref.finalize(table, shutil.rmtree, self._folder, ignore_errors=True)

    def mapped(self, name: str, schema: pa.Schema, batches: Iterable[dict[str, Any]]) -> pa.Table:
        """Write ``batches`` (column → values) and return them as a memory-mapped table.

        Raises:
            ResourceError: the temporary folder is full or unwritable.
        """
        path = self._folder / f"{name}.arrow"
        rows = iter(batches)
        with _disk(path):
            sink = pa.OSFile(str(path), "wb")
            writer = pa.ipc.new_file(sink, schema)
        try:
            for batch in rows:
                record = pa.record_batch(
                    [pa.array(batch[field.name], field.type) for field in schema], schema=schema
                )
                with _disk(path):
                    writer.write_batch(record)
            with _disk(path):
                writer.close()
        finally:
            sink.close()
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._mapped.append(table)
        return table


class _disk:  # noqa: N801 - reads as a statement: with _disk(path)
    """Turns the write errors of a full disk into a sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise ResourceError(
                f"the rows cannot be written to the temporary folder {self._path.parent.parent}: {error}",
                "free space there, or set TMPDIR to a folder on a larger disk",
            ) from None
