"""Plain text files: one text per line, or fastText's ``__label__a __label__b text``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sortal.data.encoding import TextFile, detect
from sortal.data.problems import RowProblems, shortened
from sortal.data.records import BATCH_CHARACTERS, BATCH_ROWS, Batch, RecordSource, Say

PREFIX = "__label__"
_LABEL = re.compile(rf"\s*{PREFIX}(\S+?)(?:\s*,)?(?:\s+|$)")


class LinesFile(RecordSource):
    """One row per line with column ``text``, and ``labels`` when the lines start with ``__label__``.

    Blank lines between rows are rows with an empty text; blank lines at the end are not.
    """

    lists_are_format = True

    def __init__(self, path: Path, name: str, say: Say) -> None:
        self.name = name
        self._file: TextFile = detect(path, say)
        self._labelled = is_fasttext(self._file)
        self.columns = ("labels", "text") if self._labelled else ("text",)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """See `RecordSource.batches`."""
        problems = RowProblems(self.name, "remove the NUL bytes")
        cells: dict[str, list[Any]] = {name: [] for name in self.columns}
        lines: list[int] = []
        first, size, blank = 1, 0, 0
        with self._file.open() as stream:
            for line, raw in enumerate(stream, start=1):
                text = raw.rstrip("\r\n")
                if not text.strip():
                    blank += 1
                    continue
                if "\0" in text:
                    problems.add(
                        first + len(lines) + blank,
                        f"has a NUL byte near {shortened(text.replace(chr(0), '␀'))}",
                        line,
                    )
                for gap in range(blank, -1, -1):
                    labels, body = _parsed(text if gap == 0 else "", self._labelled)
                    cells["text"].append(body)
                    if self._labelled:
                        cells["labels"].append(labels)
                    lines.append(line - gap)
                blank, size = 0, size + len(text)
                if len(lines) >= BATCH_ROWS or size >= BATCH_CHARACTERS:
                    problems.raise_if_any()
                    yield Batch(cells, len(lines), first, lines)
                    first, size, lines = first + len(lines), 0, []
                    cells = {name: [] for name in self.columns}
        problems.raise_if_any()
        if lines:
            yield Batch(cells, len(lines), first, lines)


def is_fasttext(file: TextFile) -> bool:
    """Whether the first non-blank line starts with ``__label__``."""
    with file.open() as stream:
        for line in stream:
            if line.strip():
                return line.lstrip().startswith(PREFIX)
    return False


def _parsed(line: str, labelled: bool) -> tuple[list[str], str]:
    if not labelled:
        return [], line
    labels: list[str] = []
    position = 0
    while match := _LABEL.match(line, position):
        labels.append(match[1])
        position = match.end()
    return labels, line[position:]
