"""SIGINT and SIGTERM as a request that the training loop answers between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopAsked(Exception):  # noqa: N818 - no error
    """Raised inside a piece of work that would take long to finish, when a stop was requested meanwhile."""


class StopRequest:
    """``with StopRequest() as stop:`` — the loop polls ``stop.requested`` after each step.

    The first SIGINT or SIGTERM only sets the flag; a SIGINT after that raises KeyboardInterrupt, for a user who
    does not want to wait. Outside the main thread, where Python allows no handlers, nothing is ever requested.
    The earlier handlers come back at the end.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._earlier: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for; ``signal_number`` says by which signal."""
        return self.signal_number is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            # None is a handler that was not set from Python and cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            self.signal_number = number


class Stoppable:
    """A `ProgressView` that shows nothing and ends the work it watches when a stop is asked for."""

    def __init__(self, stop: StopRequest) -> None:
        self.request = stop

    def start(self, what: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        """Raises `StopAsked` once a stop was asked for."""
        if self.request.requested:
            raise StopAsked

    def stop(self) -> None:
        """Nothing."""
