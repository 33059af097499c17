"""Lists written into a text cell: JSON, Python, numpy and bare lists, ``<a><b>`` tags. Nothing is evaluated beyond literals."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_ITEM = re.compile(
    r"""\s*(?P<item>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d*)?|[Tt]rue|[Ff]alse|None|null)\s*(?P<comma>,?)""",
    re.DOTALL,
)
_TAGS = re.compile(r"(?:\s*<[^<>]+>)+\s*")
_PAIRS = {"[": "]", "(": ")", "{": "}"}


def is_bracketed(cell: str) -> bool:
    """Whether the cell is written like a list: ``[…]``, or ``(…)`` / ``{…}`` around quoted items."""
    text = cell.strip()
    if len(text) < 2 or _PAIRS.get(text[0]) != text[-1]:
        return False
    return text[0] == "[" or text[1:].lstrip()[:1] in ("'", '"')


def parse_list(cell: str) -> list[Any] | None:
    """The items of a list literal, or None when the cell is not one.

    Understands ``<a><b>``, ``["a", "b"]``, ``['a', 'b']``, ``('a',)``, ``{'a', 'b'}``, numpy's ``['a' 'b']`` (which Python's own
    parser would silently read as one string), ``[1 2]``.
    """
    text = cell.strip()
    if _TAGS.fullmatch(text):
        return re.findall(r"<([^<>]+)>", text)
    if not is_bracketed(text):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return _items(text[1:-1])
    return parsed if isinstance(parsed, list) else None


def parse_bare_list(cell: str) -> list[Any]:
    """The comma-separated words between brackets: ``[joy, anger]``."""
    return [word.strip().strip("'\"") for word in cell.strip()[1:-1].split(",") if word.strip()]


def written_as_lists(cells: list[str], *, bare: bool) -> bool:
    """Whether the non-empty cells of a column are lists: most are literals, or all are bracketed and some have commas.

    Args:
        cells: distinct non-empty cells.
        bare: whether words without quotes count (``[joy, anger]``); a lone ``[URGENT]`` is never a list.
    """
    literal = sum(parse_list(cell) is not None for cell in cells)
    if literal and literal >= 0.5 * len(cells):
        return True
    return bare and bool(cells) and all(map(is_bracketed, cells)) and any("," in cell for cell in cells)


def _items(body: str) -> list[Any] | None:
    items: list[Any] = []
    position = 0
    while body[position:].strip():
        match = _ITEM.match(body, position)
        if match is None:
            return None
        items.append(_value(match["item"]))
        position = match.end()
        if (
            not match["comma"]
            and position < len(body)
            and not body[position - 1].isspace()
            and not body[position].isspace()
        ):
            return None
    return items


def _value(item: str) -> Any:
    words: dict[str, Any] = {"true": True, "false": False, "none": None, "null": None}
    folded = item.casefold()
    return words[folded] if folded in words else ast.literal_eval(item)
