"""A page as JSON: the same sections with their tables and plotted numbers."""

from __future__ import annotations

from typing import Any

from sortal.reporting.blocks import Block, Code, Figure, Page, Table, Words

FORMAT = 1


def data(page: Page) -> dict[str, Any]:
    """A JSON-ready dict; tables hold words as shown, figures hold the numbers they are drawn from."""
    return {
        "format": FORMAT,
        "kind": page.kind,
        "title": page.title,
        "subtitle": page.subtitle,
        "verdict": list(page.verdict),
        "notes": list(page.notes),
        "figures": dict(page.figures),
        "sections": [
            {"id": section.id, "title": section.title, "blocks": [_block(block) for block in section.blocks]}
            for section in page.sections
        ],
        "made_by": page.made_by,
    }


def _block(block: Block) -> dict[str, Any]:
    if isinstance(block, Words):
        return {"words": block.text}
    if isinstance(block, Code):
        return {"code": block.text, "language": block.language}
    if isinstance(block, Table):
        return {
            "table": block.caption,
            "header": list(block.header),
            "rows": [list(row) for row in block.rows],
        }
    if isinstance(block, Figure):
        return {"figure": block.title, "description": block.description, "data": dict(block.data)}
    return {"gallery": [_block(figure) for figure in block.figures]}
