"""Several files as one source: shards of a table, and folders of text files named after their class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sortal.data.problems import RowProblems, listed
from sortal.data.records import BATCH_CHARACTERS, BATCH_ROWS, Batch, RecordSource, Say
from sortal.errors import DataError

_TEXT_SUFFIXES = ("", ".txt", ".md", ".text")


class Shards(RecordSource):
    """Files with the same columns, one after the other (``train-00000-of-00002.parquet`` …).

    Raises:
        DataError: the shards do not have the same columns.
    """

    def __init__(self, name: str, shards: Sequence[RecordSource]) -> None:
        self.name = name
        self._shards = shards
        self.columns = shards[0].columns
        self.class_names = shards[0].class_names
        for shard in shards[1:]:
            if set(shard.columns) != set(self.columns):
                raise DataError(
                    f"{shard.name} has the columns {listed(shard.columns)}, {shards[0].name} has {listed(self.columns)}",
                    "give shards of one table",
                )

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """See `RecordSource.batches`; row numbers run on over the shards, line numbers are left out."""
        before = 0
        for shard in self._shards:
            last = 0
            for batch in shard.batches(columns):
                last = batch.first_row + batch.size - 1
                yield replace(batch, first_row=batch.first_row + before, lines=None)
            before += last


class ClassFolders(RecordSource):
    """``folder/<class>/<file>.txt``: one row per file, columns ``text``, ``label`` and ``file``, in name order."""

    columns = ("text", "label", "file")

    def __init__(self, folder: Path, name: str, say: Say) -> None:
        self.name = name
        self._folder = folder
        self._files = [(child.name, file) for child in _children(folder) for file in _text_files(child)]
        say(f"{name}: {len(self._files):,} text files in folders named after their class.")

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """See `RecordSource.batches`."""
        problems = RowProblems(self.name, "convert these files to UTF-8")
        rows: list[tuple[str, str, str]] = []
        first, size = 1, 0
        for label, file in self._files:
            text = self._text(file, first + len(rows), problems)
            rows.append((text, label, str(file.relative_to(self._folder))))
            size += len(text)
            if len(rows) >= BATCH_ROWS or size >= BATCH_CHARACTERS:
                problems.raise_if_any()
                yield self._batch(rows, first)
                first, size, rows = first + len(rows), 0, []
        problems.raise_if_any()
        if rows:
            yield self._batch(rows, first)

    def _batch(self, rows: list[tuple[str, str, str]], first: int) -> Batch:
        return Batch(
            dict(zip(self.columns, map(list, zip(*rows, strict=True)), strict=True)), len(rows), first
        )

    def _text(self, file: Path, row: int, problems: RowProblems) -> str:
        data = file.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            problems.add(
                row,
                f"{file.relative_to(self._folder)} is not UTF-8 (byte 0x{data[error.start]:02x} at {error.start:,})",
            )
            return ""
        if "\0" in text:
            problems.add(row, f"{file.relative_to(self._folder)} has a NUL byte")
        return text


def is_class_folder(folder: Path) -> bool:
    """Whether ``folder`` holds at least two folders of text files and no files of data formats beside them."""
    children = _children(folder)
    return len(children) > 1 and all(any(True for _ in _text_files(child)) for child in children)


def expand_shards(pattern: str, open_one: Callable[[str], RecordSource]) -> Shards | None:
    """The shards that match ``folder/train-*-of-00002.parquet``, or None when nothing does."""
    path = Path(pattern)
    if "*" not in path.name or not path.parent.is_dir():
        return None
    files = sorted(path.parent.glob(path.name))
    return Shards(pattern, [open_one(str(file)) for file in files]) if files else None


def _children(folder: Path) -> list[Path]:
    return sorted(
        child for child in folder.iterdir() if child.is_dir() and not child.name.startswith((".", "_"))
    )


def _text_files(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    # 20 Newsgroups names its files by number alone; Path.suffix then calls nothing a suffix.
    return sorted(file for file in files if file.suffix.lower() in _TEXT_SUFFIXES)
