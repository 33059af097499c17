"""Figures of every label, the worst first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortal.reporting.blocks import Block, Section, Table, Words
from sortal.reporting.formats import label, share
from sortal.reporting.source import FinishedRun

_WORST, _ALL, _RARE = 10, 300, 10


def labels(run: FinishedRun) -> Section:
    """The labels with the lowest F1, then all of them, folded."""
    entries = sorted(run.metrics["per_label"], key=lambda e: (e["support"] == 0, e["f1"], -e["support"]))
    multi = not run.single
    header = ["label", "F1", "precision", "recall", "rows", "given"]
    header += ["threshold", "average precision"] * multi
    align = "l" + "r" * (len(header) - 1)
    rows = [_row(entry, multi) for entry in entries[:_ALL]]
    blocks: list[Block] = [Table("Labels with the lowest F1", header, rows[:_WORST], align)]
    rare = sum(1 for entry in entries if entry["support"] < _RARE)
    if rare:
        blocks.append(
            Words(f"Labels with fewer than {_RARE} test rows, whose own figures say little: {rare:,} of {len(entries):,}.")
        )  # fmt: skip
    if len(rows) > _WORST:
        left = f"; {len(entries) - _ALL:,} more are in metrics.json" if len(entries) > _ALL else ""
        blocks.append(
            Table(f"{len(rows):,} labels, the lowest F1 first{left}", header, rows, align, folded=True)
        )
    return Section("labels", "Labels", blocks)


def _row(entry: Mapping[str, Any], multi: bool) -> list[str]:
    line = [label(entry["label"]), *(share(entry[key]) for key in ("f1", "precision", "recall"))]
    line += [f"{entry['support']:,}", f"{entry['predicted']:,}"]
    return line + [share(entry.get("threshold")), share(entry.get("average_precision"))] * multi
