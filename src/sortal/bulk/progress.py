"""Progress over all rows of a bulk prediction, which also ends it when a stop was asked for."""

from __future__ import annotations

import time

from sortal.training.progress import ProgressView
from sortal.training.signals import StopAsked, StopRequest


class RowProgress:
    """Adds rows per second to what ``view`` shows, and raises `StopAsked` once ``request`` has a signal."""

    def __init__(self, view: ProgressView, request: StopRequest) -> None:
        self._view, self._request = view, request
        self._began, self._rows = time.monotonic(), 0

    def start(self, what: str, total: int, done: int = 0) -> None:
        """Rates count from here."""
        self._began, self._rows = time.monotonic(), 0
        self._view.start(what, total, done)

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        """``units`` rows more."""
        self._rows += units
        rate = self._rows / max(time.monotonic() - self._began, 1e-9)
        self._view.advance(units, tokens, f"{rate:,.0f} rows/s  {note}".rstrip())
        if self._request.requested:
            raise StopAsked

    def stop(self) -> None:
        """The work is over."""
        self._view.stop()


class TokenCount:
    """A `ProgressView` that shows nothing and counts tokens."""

    def __init__(self) -> None:
        self.tokens = 0

    def start(self, what: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        """Adds ``tokens``."""
        self.tokens += tokens

    def stop(self) -> None:
        """Nothing."""
