"""``predictions.parquet``: one row per text, written in row groups and published by rename.

Columns: ``id`` (string), ``group`` (string, null for a row of its own; only where the data has groups), ``gold`` (left out without gold labels) and ``predicted`` — a string for single-label (null =
abstained), a list of strings for multi-label — and one float64 column ``p:<label>`` per label, after them one per node of a tree
of labels that is not a label itself. The prefix is always there, so a label named "id" or "gold" cannot clash. Task and label order
are in the file's metadata.

With more than `DENSE_LABELS` labels a column each would be most of the file and of the time, for numbers near 0. Two columns
stand for them: ``p`` (list of float64) and ``p_labels`` (list of int32, positions in the label order, rising), which hold
the `KEPT` most probable labels of the row with the predicted and gold ones; all others are read as 0. Nodes that are no labels are left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sortal.errors import DataError, ResourceError
from sortal.evaluation.ranked import first_labels
from sortal.evaluation.scores import Floats, LabelNames, Task
from sortal.hierarchy.tree import LabelTree

ROW_GROUP = 4096
DENSE_LABELS = 1000
KEPT = 100
_KEY = b"sortal"


class PredictionsWriter:
    """Appends batches of predictions to an open file; made by `open_predictions`."""

    def __init__(
        self, file: Any, path: Path, label_space: LabelNames, with_gold: bool, with_groups: bool
    ) -> None:
        self._file, self._path, self._space = file, path, label_space
        self._with_gold, self._with_groups = with_gold, with_groups

    def write(
        self,
        ids: Sequence[str],
        probabilities: Floats,
        predicted: NDArray[Any],
        gold: NDArray[Any] | None = None,
        groups: Sequence[str | None] | None = None,
    ) -> None:
        """Append rows in row groups of at most `ROW_GROUP`.

        Args:
            ids: ``n`` strings.
            probabilities: ``[n, L]``.
            predicted: as `Decision.decide` gives it: int ``[n]`` (−1 = abstained) or 0/1 ``[n, L]``.
            gold: int ``[n]`` or 0/1 ``[n, L]``; needed exactly when the file was opened with gold.
            groups: of the rows; needed exactly when the file was opened with groups.
        """
        if (gold is not None) != self._with_gold:
            raise ValueError("gold must be given exactly when the file was opened with_gold")
        if (groups is not None) != self._with_groups:
            raise ValueError("groups must be given exactly when the file was opened with_groups")
        given = [len(ids), len(probabilities), len(predicted), len(ids) if gold is None else len(gold)]
        if len(set(given)) != 1:
            raise ValueError(f"ids, probabilities, predicted and gold have different lengths: {given}")
        for start in range(0, len(ids), ROW_GROUP):
            part = slice(start, start + ROW_GROUP)
            with _clean_errors(self._path):
                self._file.write_table(
                    predictions_table(
                        ids[part],
                        probabilities[part],
                        predicted[part],
                        self._space,
                        gold=None if gold is None else gold[part],
                        groups=None if groups is None else groups[part],
                    )
                )


@contextmanager
def open_predictions(
    path: str | Path, label_space: LabelNames, *, with_gold: bool = True, with_groups: bool = False
) -> Iterator[PredictionsWriter]:
    """A writer whose file appears under ``path`` only when the block ends without an error; memory stays constant.

    Raises:
        ResourceError: the file cannot be written (disk full, no permission).
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _clean_errors(path):
            schema = predictions_schema(label_space, with_gold=with_gold, with_groups=with_groups)
            file = pq.ParquetWriter(part, schema, compression="zstd")
        try:
            yield PredictionsWriter(file, path, label_space, with_gold, with_groups)
        except BaseException:
            with suppress(OSError, pa.ArrowException):
                file.close()
            raise
        with _clean_errors(path):
            file.close()
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def _clean_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise DataError(
            f"cannot write {path}: an id or label is not valid Unicode: {error.object!r}",
            "rename it in the data",
        ) from error
    except OSError as error:
        raise ResourceError(
            f"cannot write {path}: {error.strerror or error}",
            "free disk space, or choose another output folder",
        ) from error


def write_predictions(
    path: str | Path,
    ids: Sequence[str],
    probabilities: Floats,
    predicted: NDArray[Any],
    label_space: LabelNames,
    *,
    gold: NDArray[Any] | None = None,
    groups: Sequence[str | None] | None = None,
) -> None:
    """Write all rows at once; see `PredictionsWriter.write` and `open_predictions`."""
    with open_predictions(
        path, label_space, with_gold=gold is not None, with_groups=groups is not None
    ) as writer:
        writer.write(ids, probabilities, predicted, gold, groups)


@dataclass(frozen=True)
class Predictions:
    """A ``predictions.parquet`` in memory; arrays are encoded by ``names`` as everywhere in evaluation.

    Attributes:
        names: labels in column order.
        task: single or multi.
        ids: ``n`` strings.
        gold: int64 ``[n]``, uint8 ``[n, L]``, or None.
        predicted: int64 ``[n]`` (−1 = abstained) or uint8 ``[n, L]``.
        probabilities: float64 ``[n, L]``, bit for bit as written; with many labels 0 for those that were not kept.
        groups: of the rows, None of one for a row of its own; None where they have none.
    """

    names: tuple[str, ...]
    task: Task
    ids: list[str]
    gold: NDArray[Any] | None
    predicted: NDArray[Any]
    probabilities: Floats
    groups: list[str | None] | None = None


def read_predictions(path: str | Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        DataError: the file is missing, damaged, or was not written by Sortal.
    """
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[_KEY])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a predictions file: {error}", "write it again with `sortal evaluate`"
        ) from None
    names, task = tuple(about["labels"]), about["task"]
    n = table.num_rows
    probabilities = np.zeros((n, len(names)), dtype=np.float64)
    if len(names) > DENSE_LABELS:
        start = 0
        for chunk in table.select(["p", "p_labels"]).to_batches():
            lengths = np.diff(chunk["p"].offsets.to_numpy())
            rows = start + np.repeat(np.arange(len(chunk)), lengths)
            probabilities[rows, chunk["p_labels"].flatten().to_numpy()] = chunk["p"].flatten().to_numpy()
            start += len(chunk)
    else:
        for k, name in enumerate(names):
            probabilities[:, k] = table[f"p:{name}"].to_numpy()
    gold = _encode(table["gold"], names, task) if "gold" in table.column_names else None
    groups = table["group"].to_pylist() if "group" in table.column_names else None
    predicted = _encode(table["predicted"], names, task)
    return Predictions(names, task, table["id"].to_pylist(), gold, predicted, probabilities, groups)


def predictions_schema(label_space: LabelNames, *, with_gold: bool = False, with_groups: bool = False) -> Any:
    """The Arrow schema of a predictions file."""
    names, task = tuple(label_space.names), label_space.task
    labels = pa.string() if task == "single" else pa.list_(pa.string())
    fields = [("id", pa.string())] + [("group", pa.string())] * with_groups
    fields += [("gold", labels)] * with_gold + [("predicted", labels)]
    if len(names) > DENSE_LABELS:
        fields += [("p", pa.list_(pa.float64())), ("p_labels", pa.list_(pa.int32()))]
    else:
        fields += [(f"p:{name}", pa.float64()) for name in (*names, *inner_nodes(label_space))]
    return pa.schema(fields, metadata={_KEY: json.dumps({"task": task, "labels": names})})


def predictions_table(
    ids: Sequence[str],
    probabilities: Floats,
    predicted: NDArray[Any],
    label_space: LabelNames,
    *,
    gold: NDArray[Any] | None = None,
    groups: Sequence[str | None] | None = None,
) -> Any:
    """Rows of a predictions file as an Arrow table; arguments as of `PredictionsWriter.write`."""
    names, task = tuple(label_space.names), label_space.task
    columns = [pa.array(list(ids), pa.string())]
    if groups is not None:
        columns.append(pa.array(list(groups), pa.string()))
    if gold is not None:
        columns.append(_labels(gold, names, task))
    columns.append(_labels(predicted, names, task))
    if len(names) > DENSE_LABELS:
        columns += _kept(np.asarray(probabilities, dtype=np.float64), predicted, gold)
    else:
        block = np.ascontiguousarray(with_inner_nodes(label_space, probabilities).T)
        columns += [pa.array(column) for column in block]
    schema = predictions_schema(label_space, with_gold=gold is not None, with_groups=groups is not None)
    return pa.Table.from_arrays(columns, schema=schema)


def _kept(probabilities: Floats, predicted: NDArray[Any], gold: NDArray[Any] | None) -> list[Any]:
    """The two columns of a file of many labels."""
    chosen = np.zeros(probabilities.shape, np.bool_)
    rows = np.arange(len(probabilities))
    np.put_along_axis(chosen, first_labels(probabilities, KEPT), True, axis=1)
    for encoded in (predicted, gold):
        if encoded is not None and encoded.ndim == 1:
            chosen[rows[encoded >= 0], encoded[encoded >= 0]] = True
        elif encoded is not None:
            chosen |= encoded.astype(np.bool_)
    ends = pa.array(np.append(0, np.cumsum(chosen.sum(axis=1))).astype(np.int32))
    values = pa.array(probabilities[chosen]), pa.array(np.nonzero(chosen)[1].astype(np.int32))
    return [pa.ListArray.from_arrays(ends, found) for found in values]


def inner_nodes(label_space: LabelNames) -> tuple[str, ...]:
    """The nodes of the labels' tree that are no labels themselves; none without a tree, or where every node is a label."""
    tree: LabelTree | None = getattr(label_space, "tree", None)
    return () if tree is None else tree.beyond(label_space.names)


def with_inner_nodes(label_space: LabelNames, probabilities: Floats) -> Floats:
    """Probabilities ``[n, L]`` with those of `inner_nodes` behind them."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    tree: LabelTree | None = getattr(label_space, "tree", None)
    if tree is None or not (inner := inner_nodes(label_space)):
        return probabilities
    nodes = tree.of_labels(label_space.names, probabilities)
    return np.concatenate([probabilities, nodes[:, [tree.index[name] for name in inner]]], axis=1)


def _labels(encoded: NDArray[Any], names: tuple[str, ...], task: Task) -> Any:
    if task == "single":
        return pa.array([names[k] if k >= 0 else None for k in encoded.tolist()], pa.string())
    ends = np.append(0, np.cumsum(np.count_nonzero(encoded, axis=1))).astype(np.int32)
    given = pa.array(names, pa.string()).take(pa.array(np.nonzero(encoded)[1]))
    return pa.ListArray.from_arrays(pa.array(ends), given)


def _encode(column: Any, names: tuple[str, ...], task: Task) -> NDArray[Any]:
    index = {name: k for k, name in enumerate(names)}
    if task == "single":
        return np.array([-1 if name is None else index[name] for name in column.to_pylist()], dtype=np.int64)
    encoded = np.zeros((len(column), len(names)), dtype=np.uint8)
    for row, given in enumerate(column.to_pylist()):
        encoded[row, [index[name] for name in given]] = 1
    return encoded
