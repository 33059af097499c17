"""Whether label cells such as ``joy,anger`` hold several labels: only on strong evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_NAMES = {"|": "bar", ";": "semicolon", ",": "comma", "\n": "line-break"}
GUESSED = frozenset(_NAMES)
_LONGEST_LABEL = 80
_SHARE = 0.9
_DISTINCT_COMBINATIONS = 10


@dataclass(frozen=True)
class Found:
    """A delimiter with a cell that shows it."""

    delimiter: str
    name: str
    example: str


def split_cell(cell: str, delimiter: str) -> list[str]:
    """The labels of a cell, spaces around them removed, empty ones left out. ``\\t`` may be typed out."""
    delimiter = delimiter.replace("\\t", "\t")
    parts = cell.split(delimiter) if delimiter.strip(" ") else cell.split()
    return [part.strip() for part in parts if part.strip()]


def infer_delimiter(cells: Mapping[str, int], *, sure: bool) -> Found | None:
    """The delimiter that the cells use, or None.

    Strong evidence (``sure``) is one of: nearly all parts also occur alone in a cell; or many different combinations
    are made of few parts that nearly all occur in several combinations. Without ``sure`` (the task is known to be
    multi-label) a delimiter whose parts repeat at all is enough.

    Args:
        cells: distinct cell → rows.
        sure: whether strong evidence is needed.
    """
    best: tuple[float, Found] | None = None
    for delimiter, name in _NAMES.items():
        together = [cell for cell in cells if delimiter in cell]
        if not together:
            continue
        alone = {cell.strip() for cell in cells if delimiter not in cell}
        parts: Counter[str] = Counter()
        spread: Counter[str] = Counter()
        for cell in together:
            pieces = set(split_cell(cell, delimiter))
            parts.update(dict.fromkeys(pieces, cells[cell]))
            spread.update(pieces)
        if not parts or max(map(len, parts)) > _LONGEST_LABEL:
            continue
        total = sum(parts.values())
        standing = sum(count for part, count in parts.items() if part in alone) / total
        shared = sum(count for part, count in parts.items() if part in alone or spread[part] > 1) / total
        few = len(together) >= _DISTINCT_COMBINATIONS and len(parts) <= 0.5 * len(together)
        strong = standing >= _SHARE or (few and shared >= _SHARE)
        if strong or (not sure and shared >= 0.5):
            score = standing + shared + len(together) / len(cells)
            if best is None or score > best[0]:
                best = (score, Found(delimiter, name, max(together, key=lambda cell: cells[cell])))
    return best[1] if best else None
