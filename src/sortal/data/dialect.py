"""Which delimiter and quoting a delimited file uses, decided before its rows are read."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from typing import Any

from sortal.data.encoding import TextFile
from sortal.data.records import Say

DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_ROWS = 20


@dataclass(frozen=True)
class Dialect:
    """What `csv.reader` needs to know."""

    delimiter: str
    quoted: bool = True
    backslash: bool = False

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for a strict `csv.reader`."""
        if not self.quoted:
            return {"delimiter": self.delimiter, "quoting": csv.QUOTE_NONE, "strict": True}
        if self.backslash:
            return {"delimiter": self.delimiter, "doublequote": True, "escapechar": "\\", "strict": True}
        return {"delimiter": self.delimiter, "strict": True}


def sniff(file: TextFile, name: str, say: Say) -> Dialect:
    """The delimiter of the header (`,` `;` tab `|`) and whether quotes quote."""
    default = "\t" if ".tsv" in file.path.name.lower() else ","
    delimiter = max(DELIMITERS, key=lambda candidate: (*_agreement(file, candidate), candidate == default))
    if not _agreement(file, delimiter)[1]:
        delimiter = default
    return _quoting(file, Dialect(delimiter), name, say)


def _agreement(file: TextFile, delimiter: str) -> tuple[bool, int]:
    """(the first rows have as many cells as the header, delimiters in the header)."""
    with file.open() as stream:
        widths: list[int] = []
        try:
            rows = (cells for cells in csv.reader(stream, delimiter=delimiter, strict=True) if cells)
            for cells in itertools.islice(rows, _SAMPLE_ROWS):
                widths.append(len(cells))
        except csv.Error:
            pass
    header = widths[0] if widths else 1
    return header > 1 and all(width == header for width in widths), header - 1


def _quoting(file: TextFile, dialect: Dialect, name: str, say: Say) -> Dialect:
    """Tell quotes that quote from quotes that are text, by what the whole file says.

    A file in which every physical line has the header's number of delimiters has no quoted line breaks; when
    reading its quotes as quoting fails or swallows lines, the quotes are text. A CSV that only reads with
    backslash as the escape character is read that way.
    """
    width = -1
    consistent, backslash, leading = True, False, False
    with file.open() as stream:
        for line in stream:
            text = line.rstrip("\r\n")
            if not text:
                continue
            fields = text.count(dialect.delimiter)
            width = fields if width < 0 else width
            consistent &= fields == width
            if '"' in text:
                backslash |= '\\"' in text
                leading |= text.startswith('"') or f'{dialect.delimiter}"' in text
    literal = consistent and dialect.delimiter == "\t"
    if (
        not leading
        or not (backslash or literal)
        or _reads_cleanly(file, dialect, allow_line_breaks=not literal)
    ):
        return dialect
    if literal:
        say(f"{name}: quotes are part of the text here, not around cells; they were kept.")
        return Dialect(dialect.delimiter, quoted=False)
    escaped = Dialect(dialect.delimiter, backslash=True)
    if _reads_cleanly(file, escaped, allow_line_breaks=True):
        say(f'{name}: quotes inside cells are written \\" here; backslash was read as the escape character.')
        return escaped
    return dialect


def _reads_cleanly(file: TextFile, dialect: Dialect, *, allow_line_breaks: bool) -> bool:
    width, previous = 0, 0
    with file.open() as stream:
        reader = csv.reader(stream, **dialect.arguments())
        try:
            for cells in reader:
                width = width or len(cells)
                if cells and len(cells) != width:
                    return False
                if reader.line_num - previous > 1 and not allow_line_breaks:
                    return False
                previous = reader.line_num
        except csv.Error:
            return False
    return True
