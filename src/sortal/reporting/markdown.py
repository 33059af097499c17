"""A page as Markdown, for a repository or a terminal; figures are given by their description."""

from __future__ import annotations

import re

from sortal.markdown import safe, table
from sortal.reporting.blocks import Block, Code, Figure, Gallery, Page, Words


def markdown(page: Page) -> str:
    """The whole file; data cannot become markup."""
    lines = [f"# {safe(page.title)}", "", safe(page.subtitle), ""]
    lines += [f"**{safe(page.verdict[0])}**", "", *(f"- {safe(line)}" for line in page.verdict[1:]), ""]
    lines += ["What this cannot tell:", "", *(f"- {safe(note)}" for note in page.notes), ""]
    for section in page.sections:
        lines += [f"## {safe(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join([*lines, f"Made by {page.made_by}.", ""])


def _block(block: Block) -> list[str]:
    if isinstance(block, Words):
        return [safe(block.text)]
    if isinstance(block, Code):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
        return [f"{fence}{block.language}", block.text.rstrip("\n"), fence]
    if isinstance(block, Figure):
        return [f"{safe(block.title)}. {safe(block.description)}"]
    if isinstance(block, Gallery):
        return [f"- {safe(figure.title)}. {safe(figure.description)}" for figure in block.figures]
    return [f"**{safe(block.caption)}**", "", *table(block.header, block.rows, block.align)]
