"""A page as one HTML file that asks for nothing else: no script, no font, no image, no network."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from sortal.reporting.blocks import Page

_TEMPLATES = Path(__file__).parent / "templates"


def html(page: Page) -> str:
    """The whole file; every word of data in it is escaped."""
    return _environment().get_template("page.html").render(page=page, style=_style())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(words: str) -> Markup:
    """Names with underscores and the like may be broken after these, and not in the middle of a word."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_/.:|])(?=\w)", words))


@cache
def _style() -> Markup:
    return Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))  # our own file, not data
