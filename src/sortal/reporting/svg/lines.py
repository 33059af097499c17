"""Curves over one axis, told apart by colour, dash pattern and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from sortal.reporting.svg.drawing import CHARACTER
from sortal.reporting.svg.plot import Plot
from sortal.reporting.svg.scales import Scale


@dataclass(frozen=True)
class Series:
    """A named curve; points that are not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    @property
    def points(self) -> list[tuple[float, float]]:
        """Its finite points."""
        return [(a, b) for a, b in zip(self.x, self.y, strict=True) if isfinite(a) and isfinite(b)]


@dataclass(frozen=True)
class Mark:
    """A point with a ring around it and, where there is room, words."""

    x: float
    y: float
    words: str = ""


def line_plot(
    x: Scale,
    y: Scale,
    series: Sequence[Series],
    *,
    marks: Sequence[Mark] = (),
    rug: Sequence[float] = (),
    dots: bool = False,
) -> Plot:
    """A plot of curves.

    Args:
        x: horizontal axis.
        y: vertical axis.
        series: at most six are told apart.
        marks: points with words.
        rug: values of ``x`` shown as short strokes along the axis.
        dots: a marker at every point, and not only a line.
    """
    plot = Plot(x, y, legend=[one.name for one in series] if len(series) > 1 else ())
    for number, one in enumerate(series):
        points = [plot.at(*point) for point in one.points]
        plot.path(points, number)
        # A lone point has no line, and a few markers tell several curves apart where colours do not.
        spaced = points if dots or len(points) < 2 else points[len(points) // 8 :: max(1, len(points) // 4)]
        for point in spaced if dots or len(series) > 1 or len(points) < 2 else ():
            plot.marker(point, number, 3.5)
    for value in rug:
        across, foot = plot.at(value, y.low)
        plot.line((across, foot), (across, foot - 9), "rug")
    for mark in marks:
        across, up = plot.at(mark.x, mark.y)
        plot.add("circle", cx=across, cy=up, r=8, class_="chosen")
        if not mark.words:
            continue
        half = len(mark.words) * CHARACTER / 2
        middle = min(max(across, plot.left + half + 4), plot.right - half)
        below = up - 14 < plot.top + 10
        plot.text((middle, up + 24 if below else up - 14), mark.words, "mark-words", "middle")
    return plot
