"""The date column of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.data.files import open_source
from sortal.data.problems import listed, nearest
from sortal.data.records import Say
from sortal.data.textcells import is_missing
from sortal.errors import DataError

_NUMBER = re.compile(
    r"-?\d{9,13}(\.\d+)?"
)  # seconds or milliseconds since 1970; a shorter number is a year or a day
_YEAR = re.compile(r"\d{4}")
_MONTH = re.compile(r"\d{4}-\d{2}")
_SLASHED = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})(.*)", re.DOTALL)


def read_dates(source: str, column: str, say: Say) -> list[str | None]:
    """The cells of ``column`` in row order as text, None where empty.

    Raises:
        DataError: the file has no such column.
    """
    records = open_source(source, say)
    names = records.all_columns()
    if column not in names:
        raise DataError(
            f"{records.name} has no column {column!r}{nearest(column, names)}; its columns are {listed(names)}",
            "name the date column with --date",
        )
    cells: list[str | None] = []
    for batch in records.batches([column]):
        cells += [_text(value) for value in batch.columns.get(column) or [None] * batch.size]
    return cells


def parse_dates(cells: Sequence[str | None]) -> npt.NDArray[np.datetime64]:
    """Times in UTC with seconds, datetime64[s] ``[n]``; NaT for what is not a date.

    Understood are ISO 8601, with or without time and zone, years and months, ``2024/03/31`` and ``2024.3.31``, and seconds or
    milliseconds since 1970. ``03/04/2024`` is not: whether day or month comes first cannot be known.
    """
    return np.array([_parsed(cell) for cell in cells], "datetime64[s]")


def _text(value: Any) -> str | None:
    if is_missing(value):
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value).strip() or None


def _parsed(cell: str | None) -> np.datetime64:
    nothing = np.datetime64("NaT", "s")
    if cell is None:
        return nothing
    if _NUMBER.fullmatch(cell):
        number = float(cell)
        return np.datetime64(int(number / 1000 if abs(number) >= 1e11 else number), "s")
    if _YEAR.fullmatch(cell):
        cell = f"{cell}-01-01"
    elif _MONTH.fullmatch(cell):
        cell = f"{cell}-01"
    elif slashed := _SLASHED.fullmatch(cell):
        cell = f"{slashed[1]}-{slashed[2]:0>2}-{slashed[3]:0>2}{slashed[4]}"
    try:
        time = datetime.fromisoformat(cell)
    except ValueError:
        return nothing
    if time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(time, "s")
