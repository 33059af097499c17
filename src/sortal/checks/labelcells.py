"""Another name for a label, inside a cell that is otherwise left as the file wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sortal.data.delimiters import split_cell
from sortal.data.literals import parse_bare_list, parse_list


def renamed(cell: Any, names: Mapping[str, str], delimiter: str | None) -> Any:
    """The cell with the labels that ``names`` knows renamed; a label that is then there twice is there once.

    Args:
        cell: a label, labels with ``delimiter`` between them, a list, or a list written as text.
        names: old name → new name.
        delimiter: of `sortal.data.schema.Schema`: ``""`` for one label per cell, None for lists.
    """
    if isinstance(cell, (list, tuple)):
        return _unique(cell, names)
    if not isinstance(cell, str):
        return cell
    if delimiter is None:
        items = parse_list(cell)
        return json.dumps(
            _unique(parse_bare_list(cell) if items is None else items, names), ensure_ascii=False
        )
    if delimiter == "":
        return names.get(cell.strip(), cell)
    parts = split_cell(cell, delimiter)
    if not any(part in names for part in parts):
        return cell
    return (delimiter if delimiter.strip(" ") else " ").replace("\\t", "\t").join(_unique(parts, names))


def _unique(items: Any, names: Mapping[str, str]) -> list[Any]:
    return list(
        dict.fromkeys(names.get(item.strip(), item) if isinstance(item, str) else item for item in items)
    )
