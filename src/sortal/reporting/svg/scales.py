"""Where a value lies on an axis, and which values are written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high`` of an axis, linear or by powers of ten.

    label: what the axis shows. shown: how a value is written.
    """

    low: float
    high: float
    label: str
    shown: Callable[[float], str]
    log: bool = False

    def share(self, value: float) -> float:
        """0 at ``low``, 1 at ``high``; values beyond are put at the end."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self, about: int = 5) -> list[float]:
        """Round values within the range, between about half and about twice ``about`` of them."""
        return self._decades(about) if self.log else self._even(about)

    def _even(self, about: int) -> list[float]:
        raw = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * next(s for s in _STEPS if s * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]

    def _decades(self, about: int) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
            found = [d * 10.0**p for p in powers for d in digits if self.low <= d * 10.0**p <= self.high]
            if len(found) >= 3:
                break
        if len(found) < 2:
            return self._even(about)
        return found[:: max(1, round(len(found) / about))]


def padded(values: list[float], log: bool = False, by: float = 0.08) -> tuple[float, float]:
    """The range of ``values`` with room at both ends, and never empty."""
    low, high = min(values), max(values)
    if log:
        room = max((math.log10(high) - math.log10(low)) * by, 0.15)
        return low / 10**room, high * 10**room
    room = (high - low) * by or max(abs(high) * by, 0.01)
    return low - room, high + room
