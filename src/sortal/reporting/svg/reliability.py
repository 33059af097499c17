"""Stated probability against what came true, with the number of predictions behind every point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sortal.reporting.svg.plot import Plot
from sortal.reporting.svg.scales import Scale

_COUNTS = 70.0  # height of the bars under the diagram


def reliability_plot(bins: Sequence[Mapping[str, Any]], stated: str, true: str) -> Plot:
    """A reliability diagram over bars of counts, whose heights are logarithmic.

    Args:
        bins: of `Calibration.bins`.
        stated: what the horizontal axis shows.
        true: what the vertical axis shows.
    """
    unit = Scale(0, 1, true, _two)
    plot = Plot(Scale(0, 1, stated, _two), unit, width=440, height=420)
    foot = plot.bottom
    plot.line((plot.left, foot), (plot.right, foot - (foot - plot.top)), "diagonal")
    filled = [one for one in bins if one["count"]]
    points = [plot.at(one["confidence"], one["accuracy"]) for one in filled]
    for one, point in zip(filled, points, strict=True):
        plot.line(point, plot.at(one["confidence"], one["confidence"]), "gap")
    plot.path(points, 0)
    for point in points:
        plot.marker(point, 0)
    most = max((one["count"] for one in filled), default=1)
    base = plot.height + _COUNTS + 8
    for one in filled:
        left, right = (plot.at(one[side], 0)[0] for side in ("low", "high"))
        tall = max(2.0, _COUNTS * math.log1p(one["count"]) / math.log1p(most) - 14)
        plot.add("rect", x=left + 1, y=base - tall, width=right - left - 2, height=tall, class_="count")
        plot.text(((left + right) / 2, base - tall - 3), _brief(one["count"]), "small", "middle")
    plot.line((plot.left, base), (plot.right, base), "axis")
    plot.height = base + 20
    plot.text((plot.right, base + 15), "predictions in each bin (heights are logarithmic)", "name", "end")
    return plot


def _brief(count: int) -> str:
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 10_000 else f"{count / 1000:.0f}k" if count < 1e6 else f"{count / 1e6:.0f}M"  # fmt: skip


def _two(value: float) -> str:
    return f"{value:.1f}"
