"""Titles of IPC symbols from a table, cut down to what serves as the wording of a label."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sortal.data.ipc import LEVELS, parse
from sortal.data.problems import RowProblems
from sortal.errors import DataError

_SYMBOLS = ("symbol", "code", *LEVELS)
_SMALL = re.compile(r"\b(?:e\.g\.|i\.e\.)")  # in small letters even in titles in capitals


@dataclass(frozen=True)
class IpcTitles:
    """Short titles by packed symbol; a main group is also found by its label (``D01D001``)."""

    by_symbol: Mapping[str, str] = field(default_factory=dict)

    def get(self, symbol: str) -> str:
        """The short title of a symbol in any form, "" when the table has none.

        Raises:
            DataError: it is no symbol.
        """
        return self.by_symbol.get(parse(symbol).packed, "")


def read_titles(path: str | Path) -> IpcTitles:
    """A CSV table with a column ``title`` and one of symbols (``symbol``, ``code``, ``class``, ``subclass`` …).

    Raises:
        DataError: no such file or columns, or rows whose symbol is none.
    """
    path = Path(path)
    fix = "give a CSV file in UTF-8 with the columns symbol and title"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            names = {name.strip().casefold(): name for name in reader.fieldnames or ()}
            column = next((names[name] for name in _SYMBOLS if name in names), None)
            if column is None or "title" not in names:
                raise DataError(f"{path} lacks a column title, or one of {', '.join(_SYMBOLS)}", fix)
            problems, found = RowProblems(str(path), "correct or remove these rows"), {}
            for row, cells in enumerate(reader, start=1):
                try:
                    found[parse(cells[column]).packed] = short_title(cells[names["title"]])
                except DataError as error:
                    problems.add(row, error.what, reader.line_num)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}", fix) from None
    problems.raise_if_any()
    return IpcTitles(found)


def short_title(title: str) -> str:
    """Without bracketed references and stray punctuation, on one line, in lower case when it was all in capitals.

    ``HARVESTING (machines A01D); MOWING`` → ``harvesting; mowing``. A bracket that is never closed is cut to the end.
    """
    kept: list[str] = []
    depth = 0
    for character in title:
        if character in "([":
            depth += 1
        elif character in ")]":
            depth = max(depth - 1, 0)
        elif not depth:
            kept.append(character)
    text = re.sub(r"\s+([;,.:])", r"\1", " ".join("".join(kept).split()))
    text = re.sub(r"([;,.:])(?:\s*[;,.:])+", r"\1", text).strip(" ;,.:")
    return text.lower() if _SMALL.sub("", text).isupper() else text
