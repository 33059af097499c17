"""What a report is made of, before it is HTML, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Something to copy: a command or a file."""

    text: str
    language: str = "sh"


@dataclass(frozen=True)
class Table:
    """Rows of words under a caption; the first cell of a row is its heading.

    align: one letter per column: ``l`` names and prose, ``r`` numbers, ``t`` long texts, which get room to wrap.
    folded: shown only when opened.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing with its words.

    svg: inline, already escaped.
    title: what it shows; also the caption.
    description: what can be seen in it, for those who cannot see it.
    data: the plotted numbers.
    small: one of several side by side.
    """

    svg: Markup
    title: str
    description: str
    data: Mapping[str, Any]
    small: bool = False


@dataclass(frozen=True)
class Gallery:
    """Small figures side by side."""

    figures: Sequence[Figure]


Block = Words | Code | Table | Figure | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; ``id`` is unique in the page."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole report.

    kind: ``run`` or ``comparison``.
    verdict: the result in sentences, the first the most important.
    notes: what the figures cannot tell, and what is left out.
    """

    kind: str
    title: str
    subtitle: str
    verdict: Sequence[str]
    notes: Sequence[str]
    sections: Sequence[Section]
    made_by: str
    figures: Mapping[str, Any] = field(default_factory=dict)
