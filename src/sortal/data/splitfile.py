"""The split on disk, so that every method and every later run sees the same one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sortal.data.dataset import Dataset, Indices
from sortal.data.splits import PARTS, Split
from sortal.errors import DataError, ResourceError

_KEY = b"sortal.split"


def save_split(
    path: str | Path, dataset: Dataset, parts: Split, settings: Mapping[str, Any] | None = None
) -> None:
    """Write a Parquet file with ``id``, ``row`` (1-based) and ``part`` of every row, in data order, atomically.

    Args:
        path: for example ``split.parquet`` in the run folder.
        dataset: what was split; its fingerprint goes into the file.
        parts: positions per part, as `sortal.data.splits.split` returns them.
        settings: seed and sizes, kept for the reader of the file.

    Raises:
        ResourceError: the file cannot be written; an existing one is left as it was.
    """
    path = Path(path)
    part = np.full(len(dataset), -1, np.int8)
    for name, positions in parts.items():
        part[positions] = PARTS.index(name)
    if (part < 0).any():
        raise ValueError("parts do not cover the data set")
    note = {
        "fingerprint": dataset.fingerprint,
        "source": dataset.source,
        "rows": len(dataset),
        **(settings or {}),
    }
    table = pa.table(
        {
            "id": pa.array(dataset.ids, pa.string()),
            "row": pa.array(dataset.rows, pa.int64()),
            "part": pa.DictionaryArray.from_arrays(pa.array(part), pa.array(PARTS)),
        }
    ).replace_schema_metadata({_KEY: json.dumps(note).encode()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            pq.write_table(table, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ResourceError(
            f"the split cannot be written to {path}: {error}", "free space or choose another folder"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def load_split(path: str | Path, dataset: Dataset) -> dict[str, Indices]:
    """The parts that `save_split` wrote for the same data.

    Raises:
        DataError: no such file, a damaged one, or one made for other data.
    """
    path = Path(path)
    try:
        table = pq.read_table(path)
        note = json.loads((table.schema.metadata or {})[_KEY])
        names = table.column("part").to_pylist()
    except FileNotFoundError:
        raise DataError(f"there is no split file {path}", "check the path, or make the split again") from None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} is not a readable split file ({type(error).__name__})", "make the split again"
        ) from None
    if note.get("fingerprint") != dataset.fingerprint or len(names) != len(dataset):
        raise DataError(
            f"{path} was made for other data: {note.get('rows')} rows of {note.get('source')!r}, "
            f"fingerprint {str(note.get('fingerprint'))[:12]}; {dataset.source} has {len(dataset)} rows, {dataset.fingerprint[:12]}",
            "use the original data, or remove the file to split again",
        )
    part = np.array([PARTS.index(name) if name in PARTS else -1 for name in names], np.int8)
    if (part < 0).any():
        raise DataError(f"{path} holds rows of an unknown part", "make the split again")
    return {
        name: np.flatnonzero(part == number).astype(np.int64)
        for number, name in enumerate(PARTS)
        if (part == number).any()
    }
