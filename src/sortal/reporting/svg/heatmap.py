"""A square of counts, shaded by their share of the row and with every count written in its cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.reporting.svg.drawing import Drawing

_CELL, _CHARACTER, _WIDEST = 30.0, 7.2, 24
_SLOPE = 0.71  # of labels at 45 degrees
# The strongest shade still leaves the count on it readable in both schemes.
_STRONGEST = 0.45


def heatmap(counts: NDArray[np.int64], names: Sequence[str], totals: Sequence[int], rows: str, columns: str) -> Drawing:  # fmt: skip
    """Counts ``[k, k]``, gold labels down and answers across.

    Args:
        counts: whole numbers; zeros are left blank.
        names: ``k``, one line each.
        totals: what each row's shares are of.
        rows: what the labels down the side are.
        columns: what the labels across are.
    """
    names = [name if len(name) <= _WIDEST else f"{name[: _WIDEST - 1]}…" for name in names]
    longest = max(map(len, names)) * _CHARACTER
    left, top = longest + 14, longest * _SLOPE + 44
    side = _CELL * len(names)
    drawing = Drawing(left + side + max(4.0, longest * _SLOPE - 4), top + side + 8)
    drawing.text((4, 14), f"down: {rows}; across: {columns}", "name")
    for k, name in enumerate(names):
        across, down = left + _CELL * k, top + _CELL * k
        drawing.text((left - 8, down + 19), name, "tick", "end")
        turned: dict[str, Any] = {"transform": f"translate({across + 18:.1f} {top - 8:.1f}) rotate(-45)"}
        drawing.add("text", name, class_="tick", **turned)
    order = sorted(
        np.ndindex(counts.shape), key=lambda cell: cell[0] == cell[1]
    )  # outlines of the diagonal on top
    for i, j in order:
        count = int(counts[i, j])
        across, down = left + _CELL * j, top + _CELL * i
        share = min(1.0, count / max(totals[i], 1))
        drawing.add(
            "rect", x=across, y=down, width=_CELL, height=_CELL, class_="cell diagonal-cell" if i == j else "cell",
            fill_opacity=f"{_STRONGEST * share:.2f}",
        )  # fmt: skip
        if count:
            drawing.text((across + _CELL / 2, down + 19), f"{count}", "small", "middle")
    return drawing
