"""From a record to a row: codes checked, one language chosen, what is odd noted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from sortal.data.ipc import IpcSymbol, Level, parse
from sortal.data.wipo.layout import RecordFile
from sortal.data.wipo.record import FIELDS, Record, RecordError, Text
from sortal.errors import DataError

# Column of a row's own label and column of the labels of all its codes, by level.
LABEL_COLUMNS: dict[Level, tuple[str, str]] = {
    "section": ("section", "all_sections"),
    "class": ("class", "all_classes"),
    "subclass": ("subclass", "all_subclasses"),
    "main_group": ("main_group", "all_main_groups"),
    "subgroup": ("main_code", "all_codes"),
}
SCHEMA = pa.schema(
    [pa.field("id", pa.string()), *(pa.field(name, pa.large_string()) for name in FIELDS)]
    + [pa.field(name, pa.string()) for name, _ in LABEL_COLUMNS.values()]
    + [pa.field(name, pa.list_(pa.string())) for _, name in LABEL_COLUMNS.values()]
    + [pa.field(name, pa.string()) for name in ("language", "country", "publication", "kind", "file")]
    + [pa.field("date", pa.date32())]
)


@dataclass
class Row:
    """A row and what was noticed about it.

    Attributes:
        values: a value for each column of `SCHEMA`.
        counted: kinds of things that many records lack; they are only counted.
        notes: (kind, sentence) of what contradicts itself; the row is kept and the note listed.
    """

    values: dict[str, Any]
    counted: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def make_row(record: Record, file: RecordFile, languages: Sequence[str]) -> Row:
    """The row of a record.

    Args:
        languages: in order of preference; a field without any of them has the first text that there is.

    Raises:
        RecordError: its main code is missing or is none.
    """
    if not record.main:
        raise RecordError("no main code", "it has no main code (ipcs/@mc)")
    main = _group(record.main)
    if isinstance(main, str):
        raise RecordError("invalid main code", f"main code {main}")
    row = Row({})
    symbols = [main, *_others(record.others, row)]
    chosen = {name: _choose(record.texts.get(name, []), languages) for name in FIELDS}
    present = [text for text in (chosen[name] for name in ("abstract", *FIELDS)) if text]
    found = {text.language for text in present}
    row.values = {
        "id": record.attributes.get("an") or file.shown.rpartition("/")[2].rpartition(".")[0],
        **{name: text.text if text else None for name, text in chosen.items()},
        "language": (present[0].language or None) if present else None,
        "country": record.attributes.get("cy") or None,
        "publication": record.attributes.get("pn") or None,
        "kind": record.attributes.get("kind") or None,
        "file": file.shown,
        "date": file.date,
    }
    for level, (own, of_all) in LABEL_COLUMNS.items():
        row.values[own] = main.prefix(level)
        row.values[of_all] = list(dict.fromkeys(symbol.prefix(level) for symbol in symbols))
    row.counted += [f"no {name}" for name, text in chosen.items() if not text]
    row.counted += ["no text at all"] if not present else []
    row.counted += ["no secondary code"] if len(symbols) == 1 else []
    row.counted += ["no date in the file name"] if file.date is None else []
    row.counted += ["fields in several languages"] if len(found) > 1 else []
    row.counted += [f"nothing in {languages[0]}"] if present and languages[0] not in found | {""} else []
    _compare_folder(file.symbol, main, row)
    return row


def _group(code: str) -> IpcSymbol | str:
    """The symbol of a main group or deeper, or why there is none."""
    try:
        symbol = parse(code)
    except DataError as error:
        return error.what
    return symbol if symbol.main_group else f"{code!r} ends above the main group"


def _others(codes: Iterable[str], row: Row) -> list[IpcSymbol]:
    symbols = []
    for code in codes:
        symbol = _group(code)
        if isinstance(symbol, str):
            row.notes.append(("invalid secondary code", f"secondary code {symbol}; it is left out"))
        else:
            symbols.append(symbol)
    return symbols


def _choose(texts: Sequence[Text], languages: Sequence[str]) -> Text | None:
    for language in languages:
        for text in texts:
            if text.language == language:
                return text
    return texts[0] if texts else None


def _compare_folder(folder: IpcSymbol | None, main: IpcSymbol, row: Row) -> None:
    if folder is None:
        row.counted.append("folders spell no symbol")
        return
    level: Level = "main_group" if folder.main_group else "subclass"
    if folder.prefix(level) != main.prefix(level):
        row.notes.append(
            (
                "folder disagrees",
                f"it lies under {folder.prefix(level)}, its main code is {main.written}; the code counts",
            )
        )
