"""JSON lines and JSON documents (an array of objects, or columns), streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from sortal.data.encoding import TextFile, detect
from sortal.data.problems import RowProblems, shortened
from sortal.data.records import BATCH_CHARACTERS, BATCH_ROWS, Batch, RecordSource, Say
from sortal.errors import DataError

_FIX = 'write one JSON object per line, for example {"text": "…", "label": "…"}'
_STEP = 1 << 16
Record = tuple[int, dict[str, Any], int]
"""(line, object, characters)"""


class _JsonRecords(RecordSource):
    """What the JSON formats share: objects to batches, columns from the first batch."""

    def __init__(self, path: Path, name: str, say: Say) -> None:
        self.name = name
        self._file: TextFile = detect(path, say)
        self.columns = self._first_columns()

    def _records(self, problems: RowProblems) -> Iterator[Record]:
        raise NotImplementedError

    def _first_columns(self) -> tuple[str, ...]:
        first = next(self.batches(), None)
        return tuple(first.columns) if first else ()

    def all_columns(self) -> tuple[str, ...]:
        """The union of the keys of every row, in order of first appearance."""
        return tuple(dict.fromkeys(name for batch in self.batches() for name in batch.columns))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """See `RecordSource.batches`."""
        problems = RowProblems(self.name, _FIX)
        objects: list[dict[str, Any]] = []
        lines: list[int] = []
        first, size = 1, 0
        for line, record, length in self._records(problems):
            objects.append(record)
            lines.append(line)
            size += length
            if len(objects) >= BATCH_ROWS or size >= BATCH_CHARACTERS:
                problems.raise_if_any()
                yield _batch(objects, columns, first, lines)
                first, size, objects, lines = first + len(objects), 0, [], []
        problems.raise_if_any()
        if objects:
            yield _batch(objects, columns, first, lines)


class JsonLinesFile(_JsonRecords):
    """One JSON object per line; blank lines are ignored.

    Raises:
        DataError: (while reading) the first five lines that are not JSON objects.
    """

    def _records(self, problems: RowProblems) -> Iterator[Record]:
        row = 0
        with self._file.open() as stream:
            for line, text in enumerate(stream, start=1):
                if not text.strip():
                    continue
                row += 1
                try:
                    record = json.loads(text, object_pairs_hook=_object)
                except json.JSONDecodeError as error:
                    nul = " (NUL byte)" if "\0" in text else ""
                    problems.add(row, f"is not JSON: {error.msg} at column {error.colno:,}{nul}", line)
                    continue
                except RecursionError:
                    problems.add(row, "is nested too deeply", line)
                    continue
                if not isinstance(record, dict):
                    problems.add(row, f"is not a JSON object but {shortened(record)}", line)
                    continue
                if isinstance(record, _Twice):
                    problems.add(row, record.what, line)
                yield line, record, len(text)


class JsonDocumentFile(_JsonRecords):
    """A JSON array of objects (streamed), or one object that holds such an array or columns (read whole)."""

    def _records(self, problems: RowProblems) -> Iterator[Record]:
        with self._file.open() as stream:
            head = _skip_space(stream)
            if head == "[":
                yield from self._array(stream, problems)
                return
            try:
                rows = _rows_of(json.loads(head + stream.read()))
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{self.name} is not valid JSON: {error.msg} (line {error.lineno:,}, column {error.colno:,})",
                    _FIX,
                ) from None
        if rows is None:
            raise DataError(
                f"{self.name} holds one JSON object without rows in it",
                "give an array of objects, or JSON lines",
            )
        yield from ((1, record, 200) for record in rows)

    def _array(self, stream: TextIO, problems: RowProblems) -> Iterator[Record]:
        decoder, buffer, position = json.JSONDecoder(object_pairs_hook=_object), "", 0
        line, row, step, ended = 1, 0, _STEP, False
        while True:
            while position < len(buffer) and buffer[position] in " \t\r\n,":
                line += buffer[position] == "\n"
                position += 1
            if position < len(buffer) and buffer[position] == "]":
                if (buffer[position + 1 :] or stream.read(step)).strip() or _skip_space(stream):
                    raise DataError(
                        f"{self.name}, line {line:,}: something follows the end of the array after row {row:,}",
                        "give one array, or JSON lines",
                    )
                return
            try:
                record, end = decoder.raw_decode(buffer, position)
            except json.JSONDecodeError as error:
                if ended:
                    raise DataError(
                        f"{self.name}, line {line:,}: row {row + 1:,} is not valid JSON or the array is cut off ({error.msg})",
                        _FIX,
                    ) from None
                more = stream.read(step)
                # Growing steps keep a cell of many megabytes from being parsed again and again.
                buffer, position, step, ended = buffer[position:] + more, 0, min(step * 2, 1 << 26), not more
                continue
            row, step = row + 1, _STEP
            start, length = line, end - position
            line += buffer.count("\n", position, end)
            position = end
            if isinstance(record, _Twice):
                problems.add(row, record.what, start)
            if isinstance(record, dict):
                yield start, record, length
            else:
                problems.add(row, f"is not a JSON object but {shortened(record)}", start)


class _Twice(dict[str, Any]):
    """An object that names a key twice, of which one value would be lost."""

    what = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    twice = _Twice(found)
    twice.what = f"has the key {next(name for name in names if names.count(name) > 1)!r} twice"
    return twice


def open_json(path: Path, name: str, say: Say) -> RecordSource:
    """A ``.json`` file: JSON lines when its first line is a whole object followed by others, else a document."""
    file = detect(path, lambda message: None)
    with file.open() as stream:
        lines = [text for text in (stream.readline() for _ in range(3)) if text.strip()]
    if lines and lines[0].lstrip().startswith("{"):
        try:
            first = json.loads(lines[0])
        except json.JSONDecodeError:
            pass
        else:
            if len(lines) > 1 or _rows_of(first) is None:
                return JsonLinesFile(path, name, say)
    return JsonDocumentFile(path, name, say)


def _skip_space(stream: TextIO) -> str:
    while character := stream.read(1):
        if not character.isspace():
            return character
    return ""


def _rows_of(document: Any) -> list[dict[str, Any]] | None:
    """Rows of ``{"data": [{…}, …]}``, ``{"text": […], "label": […]}`` or ``{"text": {"0": …}, …}``."""
    if not isinstance(document, dict) or not document:
        return None
    values = list(document.values())
    tables = [
        value
        for value in values
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    ]
    if len(tables) == 1:
        return list(tables[0])
    if len(values) > 1 and all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [dict(zip(document, cells, strict=True)) for cells in zip(*values, strict=True)]
    if len(values) > 1 and all(
        isinstance(value, dict) and value.keys() == values[0].keys() for value in values
    ):
        return [{name: column[key] for name, column in document.items()} for key in values[0]]
    return None


def _batch(
    objects: list[dict[str, Any]], columns: Sequence[str] | None, first: int, lines: list[int]
) -> Batch:
    names = (
        columns if columns is not None else list(dict.fromkeys(name for record in objects for name in record))
    )
    return Batch(
        {name: [record.get(name) for record in objects] for name in names}, len(objects), first, lines
    )
