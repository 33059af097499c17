"""A drawing with two axes: frame, grid, numbers, and where a value goes."""

from __future__ import annotations

from collections.abc import Sequence

from sortal.reporting.svg.drawing import CHARACTER, Drawing, Point
from sortal.reporting.svg.scales import Scale

_LEFT, _RIGHT, _TOP, _BOTTOM, _ROW = 52.0, 14.0, 26.0, 42.0, 19.0


class Plot(Drawing):
    """Axes with room for a legend above them.

    Args:
        legend: names of the series, in order; a line each.
        height: of the plot itself, without legend.
    """

    def __init__(
        self, x: Scale, y: Scale, *, width: float = 440, height: float = 280, legend: Sequence[str] = ()
    ) -> None:
        above = _ROW * len(legend)
        super().__init__(width, height + above)
        self.x, self.y = x, y
        self.left, self.right = _LEFT, width - _RIGHT
        self.top, self.bottom = above + _TOP, above + height - _BOTTOM
        self._frame()
        for number, name in enumerate(legend):
            at = _ROW * number + 10
            self.path([(4, at), (44, at)], number)
            self.marker((24, at), number)
            self.text((52, at + 4.5), name)

    def at(self, x: float, y: float) -> Point:
        """User units of a value."""
        return (
            self.left + self.x.share(x) * (self.right - self.left),
            self.bottom - self.y.share(y) * (self.bottom - self.top),
        )

    def upright(self, x: float, class_: str) -> None:
        """A vertical line through the plot."""
        across = self.at(x, self.y.low)[0]
        self.line((across, self.top), (across, self.bottom), class_)

    def _frame(self) -> None:
        for value in self.y.ticks(5):
            _, y = self.at(self.x.low, value)
            self.line((self.left, y), (self.right, y), "grid")
            self.text((self.left - 6, y + 4.5), self.y.shown(value), "tick", "end")
        free = self.left - 3 * CHARACTER  # numbers that would touch the one before are left out
        for value in self.x.ticks(6):
            x, _ = self.at(value, self.y.low)
            words = self.x.shown(value)
            self.line((x, self.bottom), (x, self.bottom + 4), "axis")
            if x - len(words) * CHARACTER / 2 > free:
                self.text((x, self.bottom + 18), words, "tick", "middle")
                free = x + (len(words) + 1) * CHARACTER / 2
        self.line((self.left, self.bottom), (self.right, self.bottom), "axis")
        self.line((self.left, self.top), (self.left, self.bottom), "axis")
        self.text((4, self.top - 10), self.y.label, "name")
        self.text((self.right, self.bottom + 36), self.x.label, "name", "end")
