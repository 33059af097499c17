"""A page as Markdown, for a repository or a terminal; figures are given by their description."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sortal.report.blocks import Block, Code, Figure, Gallery, Page, Table, Words

# What would start markup or HTML inside a line.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|])")


def markdown(page: Page) -> str:
    """The whole file; data cannot become markup."""
    lines = [f"# {_safe(page.title)}", "", _safe(page.subtitle), ""]
    lines += [f"**{_safe(page.verdict[0])}**", "", *(f"- {_safe(line)}" for line in page.verdict[1:]), ""]
    lines += ["What this cannot tell:", "", *(f"- {_safe(note)}" for note in page.notes), ""]
    for section in page.sections:
        lines += [f"## {_safe(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join([*lines, f"Made by {page.made_by}.", ""])


def _block(block: Block) -> list[str]:
    if isinstance(block, Words):
        return [_safe(block.text)]
    if isinstance(block, Code):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
        return [f"{fence}{block.language}", block.text.rstrip("\n"), fence]
    if isinstance(block, Figure):
        return [f"{_safe(block.title)}. {_safe(block.description)}"]
    if isinstance(block, Gallery):
        return [f"- {_safe(figure.title)}. {_safe(figure.description)}" for figure in block.figures]
    return _table(block)


def _table(table: Table) -> list[str]:
    rules = [" --: " if align == "r" else " --- " for align in table.align]
    return [
        f"**{_safe(table.caption)}**",
        "",
        _row(table.header),
        f"|{'|'.join(rules)}|",
        *map(_row, table.rows),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_safe(cell) for cell in cells)} |"


def _safe(words: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(words.split()))
