"""One text per row from one or several columns."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sortal.data.problems import counted, listed, nearest, shortened
from sortal.data.records import Batch, Say
from sortal.data.sections import MARK, unmarked_cell
from sortal.errors import ConfigError, DataError

_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_template(template: str) -> tuple[list[tuple[str, str | None]], tuple[str, ...]]:
    r"""``"{title}\n{body}"`` as (literal, column) pieces, and its columns in order; ``\n`` and ``\t`` may be typed out.

    Raises:
        ConfigError: unbalanced braces, no column, or anything but plain column names in braces.
    """
    written_out = template.replace("\\n", "\n").replace("\\t", "\t")
    try:
        pieces = list(string.Formatter().parse(written_out))
    except ValueError as error:
        raise ConfigError(
            f"text_template {template!r} is not valid: {error}", "write {column}; double braces that are text"
        ) from None
    parsed: list[tuple[str, str | None]] = []
    for literal, name, spec, conversion in pieces:
        if spec or conversion or name == "":
            raise ConfigError(
                f"text_template {template!r} may only hold plain {{column}} names",
                "remove formats and empty braces",
            )
        parsed.append((literal, name))
    columns = tuple(dict.fromkeys(name for _, name in parsed if name is not None))
    if not columns:
        raise ConfigError(
            f"text_template {template!r} names no column", "write for example '{title}\\n{body}'"
        )
    return parsed, columns


def clean(value: str) -> tuple[str, bool]:
    """The string with lone surrogates (which UTF-8 and Arrow cannot hold) as U+FFFD, and whether any were found."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", value), True
    return value, False


def is_missing(value: Any) -> bool:
    """None and NaN."""
    return value is None or (isinstance(value, float) and value != value)


@dataclass
class TextJoiner:
    """Joins the text columns of a batch and remembers what had to be repaired.

    Without a template the non-empty values are joined by a line break. Missing text becomes an empty string:
    rows are never dropped.
    """

    source: str
    columns: tuple[str, ...]
    template: str | None = None
    missing: int = 0
    repaired: list[int] = field(default_factory=list)
    repaired_count: int = 0

    def __post_init__(self) -> None:
        self._pieces = parse_template(self.template)[0] if self.template is not None else None

    def join(self, batch: Batch) -> list[str]:
        """One string per row of ``batch``.

        Raises:
            DataError: a cell holds an object or list instead of text.
        """
        cells = {name: self._strings(batch, name) for name in self.columns}
        if len(self.columns) == 1 and self._pieces is None:
            texts = [value or "" for value in cells[self.columns[0]]]
        else:
            build: Callable[[int], str] = (
                self._filled(cells) if self._pieces is not None else self._lines(cells)
            )
            texts = [build(position) for position in range(batch.size)]
        columns = list(cells.values())
        self.missing += sum(
            all(not (value := column[position]) or value.isspace() for column in columns)
            for position in range(batch.size)
        )
        return texts

    def report(self, say: Say) -> None:
        """Say what was repaired."""
        if self.missing:
            say(f"warning: {self.source}: {counted(self.missing, 'row')} without text; kept as empty text.")
        if self.repaired_count:
            rows = ", ".join(f"{row:,}" for row in self.repaired)
            say(
                f"{self.source}: lone surrogates replaced by U+FFFD in {counted(self.repaired_count, 'row')} (first: row {rows})."
            )

    def _lines(self, cells: dict[str, list[str | None]]) -> Callable[[int], str]:
        columns = list(cells.values())
        return lambda position: "\n".join(
            value for column in columns if (value := column[position]) and value.strip()
        )

    def _filled(self, cells: dict[str, list[str | None]]) -> Callable[[int], str]:
        pieces = self._pieces or []
        if MARK in (self.template or ""):
            cells = {
                name: [unmarked_cell(value) if value else value for value in column]
                for name, column in cells.items()
            }
        return lambda position: "".join(
            literal + ((cells[name][position] or "") if name is not None else "") for literal, name in pieces
        )

    def _strings(self, batch: Batch, name: str) -> list[str | None]:
        values = batch.columns.get(name) or [None] * batch.size
        return [self._string(value, name, batch, position) for position, value in enumerate(values)]

    def _string(self, value: Any, name: str, batch: Batch, position: int) -> str | None:
        if isinstance(value, str):
            if value.isascii():
                return value
            text, repaired = clean(value)
            if repaired:
                self.repaired_count += 1
                if len(self.repaired) < 5:
                    self.repaired.append(batch.first_row + position)
            return text
        if is_missing(value):
            return None
        if isinstance(value, (list, dict, bytes)):
            line = batch.line(position)
            where = f"row {batch.first_row + position:,}" + (f" (line {line:,})" if line is not None else "")
            raise DataError(
                f"{self.source}, {where}, column {name!r}: the text is a {type(value).__name__}: {shortened(value)}",
                "store the text as one string, or name another text column",
            )
        return json.dumps(value) if isinstance(value, (bool, int, float)) else str(value)


def check_template(template: str | None, text: Sequence[str]) -> tuple[str, ...]:
    """The text columns that ``text`` and ``template`` ask for together.

    Raises:
        ConfigError: the template names a column that ``text`` does not.
    """
    if template is None:
        return tuple(text)
    columns = parse_template(template)[1]
    unknown = [name for name in columns if text and name not in text]
    if unknown:
        raise ConfigError(
            f"text_template names {listed(unknown)}, which is not among the text columns {listed(text)}{nearest(unknown[0], text)}",
            "use the same columns in --text and text_template",
        )
    return columns
