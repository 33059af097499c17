"""A page as one HTML file that asks for nothing else: no script, no font, no image, no network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sortal.report.blocks import Page

_TEMPLATES = Path(__file__).parent / "templates"


def html(page: Page) -> str:
    """The whole file; every word of data in it is escaped."""
    return _environment().get_template("page.html").render(page=page, style=_style())


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _style() -> Markup:
    return Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))  # our own file, not data
