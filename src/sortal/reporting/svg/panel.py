"""A small precision–recall curve, one of several side by side."""

from __future__ import annotations

from sortal.evaluation.curves import PrecisionRecall
from sortal.reporting.svg.drawing import Drawing

_LEFT, _TOP, _SIDE = 34.0, 20.0, 130.0


def panel(curve: PrecisionRecall, base_rate: float, chosen: tuple[float, float] | None) -> Drawing:
    """Precision over recall from 0 to 1.

    Args:
        curve: of one label, or of all.
        base_rate: precision of giving the label to every row, a dashed line.
        chosen: (recall, precision) of the answers that were given; None when the label was never given.
    """
    drawing = Drawing(_LEFT + _SIDE + 16, _TOP + _SIDE + 34)

    def at(recall: float, precision: float) -> tuple[float, float]:
        return _LEFT + _SIDE * recall, _TOP + _SIDE * (1 - precision)

    for value in (0.0, 0.5, 1.0):
        (left, y), (x, bottom) = at(0, value), at(value, 0)
        drawing.line((left, y), (_LEFT + _SIDE, y), "grid")
        drawing.text((left - 5, y + 4), f"{value:g}", "small", "end")
        drawing.text((x, bottom + 14), f"{value:g}", "small", "middle")
    drawing.line(at(0, 0), at(1, 0), "axis")
    drawing.line(at(0, 0), at(0, 1), "axis")
    drawing.line(at(0, base_rate), at(1, base_rate), "diagonal")
    points = [at(r, p) for r, p in zip(curve.recall.tolist(), curve.precision.tolist(), strict=True)]
    if points:
        drawing.path([(_LEFT, points[0][1]), *points], 0)
    if chosen is not None:
        drawing.marker(at(*chosen), 3, 6)
    drawing.text((4, 12), "precision", "small")
    drawing.text((_LEFT + _SIDE, _TOP + _SIDE + 29), "recall", "small", "end")
    return drawing
