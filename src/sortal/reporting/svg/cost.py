"""Quality against what it costs: a named point per method with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sortal.reporting.svg.drawing import CHARACTER, Point
from sortal.reporting.svg.plot import Plot
from sortal.reporting.svg.scales import Scale

_LINE = 15.0  # height of a line of text
_BOLD = 1.25  # a bold letter's width to a plain one's, in the widest of the fonts that browsers fall back to


@dataclass(frozen=True)
class CostPoint:
    """A method: cost, quality, its interval, and (cost, quality) of every run when there are several."""

    name: str
    cost: float
    value: float
    interval: Sequence[float] | None
    runs: Sequence[tuple[float, float]] = ()


def cost_plot(cost: Scale, quality: Scale, points: Sequence[CostPoint]) -> Plot:
    """A plot in which no two names overlap while there is room."""
    plot = Plot(cost, quality, height=320)
    taken: list[tuple[float, float, float, float]] = []
    for number, point in enumerate(points):
        across, up = plot.at(point.cost, point.value)
        low, high = point.interval or (point.value, point.value)
        (_, foot), (_, head) = plot.at(point.cost, low), plot.at(point.cost, high)
        if point.interval is not None:
            plot.line((across, foot), (across, head), f"bar c{number % 6}")
            for end in (foot, head):
                plot.line((across - 5, end), (across + 5, end), f"bar c{number % 6}")
        for run in point.runs:
            at = plot.at(*run)
            plot.add("circle", cx=at[0], cy=at[1], r=3.5, class_=f"open run c{number % 6}")
        plot.marker((across, up), number)
        taken.append((across - 6, min(head, up - 6), across + 6, max(foot, up + 6)))
    for point in points:
        box = place_name(plot, plot.at(point.cost, point.value), point.name, taken)
        taken.append(box)
        plot.text((box[0], box[3] - 4), point.name, "mark-words")
    return plot


def place_name(
    plot: Plot, at: Point, name: str, taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float, float, float]:
    """A box (left, top, right, bottom) for a name beside ``at`` that meets the fewest of ``taken``, and stays in the plot."""
    width = len(name) * CHARACTER * _BOLD
    best, fewest = (0.0, 0.0, 0.0, 0.0), len(taken) + 1
    for step in range(8):
        # right and left of the point, then further and further above and below
        for side, rise in ((1, step), (-1, step), (1, -step), (-1, -step)):
            left = at[0] + 10 if side == 1 else at[0] - 10 - width
            left = min(max(left, plot.left + 2), plot.right - width)
            middle = min(max(at[1] - rise * _LINE, plot.top + _LINE / 2), plot.bottom - _LINE / 2)
            box = (left, middle - _LINE / 2, left + width, middle + _LINE / 2)
            met = sum(_meet(box, other) for other in taken)
            if met < fewest:
                best, fewest = box, met
    return best


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
