"""A text of several sections: one string that still knows where each begins, for every reader of texts alike.

Sections are kept apart by a mark, U+001E (record separator), which is white space to whoever does not know it. What reads tokens
cuts each section for itself; people, linear models and plain transformers see the sections one per line.
"""

from __future__ import annotations

from collections.abc import Iterable

MARK = "\x1e"


def sections_template(names: Iterable[str]) -> str:
    """The ``text_template`` that joins the columns ``names`` with marks between them."""
    return MARK.join(f"{{{name}}}" for name in names)


def unmarked_cell(value: str) -> str:
    """A cell's text without marks of its own, which would be taken for borders."""
    return value.replace(MARK, " ")


def split_sections(text: str, count: int) -> list[str] | None:
    """The ``count`` sections of ``text``; None for a text that was not made of so many."""
    parts = text.split(MARK)
    return parts if len(parts) == count else None


def plain_text(text: str) -> str:
    """``text`` with its sections one per line, empty ones left out; any other text as it is."""
    return "\n".join(part for part in text.split(MARK) if part.strip()) if MARK in text else text
