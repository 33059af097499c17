"""What people see while a run takes its time: real tokens per second, loss, dev metric, time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_PLAIN_SECONDS = 30.0


class ProgressView(Protocol):
    """What the loop reports to."""

    def start(self, what: str, total: int, done: int = 0) -> None:
        """A piece of work of ``total`` units begins (or goes on at ``done``)."""

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        """``units`` more are done, ``tokens`` real tokens were processed for them."""

    def stop(self) -> None:
        """The piece of work is over."""


class NoProgress:
    """Shows nothing."""

    def start(self, what: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Within:
    """Passes progress on to a view that is already showing a larger piece of work."""

    def __init__(self, view: ProgressView) -> None:
        self.view = view

    def start(self, what: str, total: int, done: int = 0) -> None:
        """Nothing: the larger piece of work has begun."""

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        """To the view."""
        self.view.advance(units, tokens, note)

    def stop(self) -> None:
        """Nothing: the larger piece of work goes on."""


class Patient:
    """Lets a view show nothing until ``seconds`` have passed since this was made: what is over by then needs no bar."""

    def __init__(self, view: ProgressView, seconds: float = 2.0) -> None:
        self._view = view
        self._from = time.monotonic() + seconds
        self._shown = False

    def start(self, what: str, total: int, done: int = 0) -> None:
        """A piece of work begins; shown at once when the wait is over."""
        self._what, self._total, self._done, self._shown = what, total, done, False
        self._show()

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        """Pass progress on, or remember it."""
        if self._show():
            self._view.advance(units, tokens, note)
        self._done += units

    def stop(self) -> None:
        """The piece of work is over."""
        if self._shown:
            self._view.stop()

    def _show(self) -> bool:
        if not self._shown and time.monotonic() >= self._from:
            self._shown = True
            self._view.start(self._what, self._total, self._done)
        return self._shown


class TerminalProgress:
    """A bar on a terminal, a line now and then in a log file; always on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console  # a tenth of a second, and only this view needs it

        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, what: str, total: int, done: int = 0) -> None:
        """Begin showing ``what``."""
        self.stop()
        self._what, self._total, self._done, self._first = what, total, done, done
        self._tokens, self._began, self._said = 0, time.monotonic(), time.monotonic()
        if self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            # What is shown may name a template, and "[/INST]" in it is no markup.
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(what, total=total, completed=done, note="", left="")

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        """Show progress; speed and time left are of this process since `start`."""
        self._done += units
        self._tokens += tokens
        elapsed = max(time.monotonic() - self._began, 1e-9)
        speed = f"{self._tokens / elapsed:,.0f} tok/s" if self._tokens else ""  # linear methods have none
        left = f"{_clock(elapsed / max(self._done - self._first, 1) * (self._total - self._done))} left"
        note = f"{speed}  {note}".lstrip()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=note, left=left)
        elif time.monotonic() - self._said > _PLAIN_SECONDS:
            self._said = time.monotonic()
            line = f"{self._what}  {self._done}/{self._total}  {note}  {left}"
            self.console.print(line, highlight=False, markup=False)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
