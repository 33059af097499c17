"""What people see while it runs; the clock is the test's own."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sortal.training import progress
from sortal.training.progress import NoProgress, Patient, TerminalProgress, Within


class Clock:
    """Seconds that pass only when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def written(view: TerminalProgress) -> str:
    file = view.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_work_without_tokens_shows_no_speed(clock):
    view = TerminalProgress(console(False))
    view.start("svm C=1", 10)
    clock.now += 40
    view.advance(4, 0)
    assert written(view) == "svm C=1  4/10    1:00 left\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_brackets_in_a_template_are_shown_and_not_read_as_markup(clock, terminal):
    view = TerminalProgress(console(terminal))
    view.start("'[INST] {text} [/INST]' states", 10)
    clock.now += 40
    view.advance(4, 0, "[red]")
    view.stop()
    assert "'[INST] {text} [/INST]' states" in written(view)
    assert "[red]" in written(view)


def test_a_log_file_gets_a_line_now_and_then_with_speed_in_real_tokens_and_time_left(clock):
    view = TerminalProgress(console(False))
    view.start("training", 100)
    clock.now += 10
    view.advance(1, 500)
    assert written(view) == "", "no line for every step"
    clock.now += 30
    view.advance(19, 19_500, "loss 0.700")
    assert written(view) == "training  20/100  500 tok/s  loss 0.700  2:40 left\n"
    view.advance(1, 1000)
    assert written(view).count("\n") == 1
    view.stop()


def test_a_resumed_piece_of_work_counts_its_own_speed(clock):
    view = TerminalProgress(console(False))
    view.start("training", 100, 90)
    clock.now += 40
    view.advance(4, 4000)
    assert written(view) == "training  94/100  100 tok/s    1:00 left\n"


def test_a_terminal_gets_a_bar_that_is_taken_away(clock):
    with TerminalProgress(console(True)) as view:
        view.start("training", 4)
        clock.now += 2
        view.advance(1, 3000, "loss 0.700")
        bar = view._bar
        assert bar is not None
        task = bar.tasks[0]
        assert (task.completed, task.total) == (1, 4)
        assert task.fields == {"note": "1,500 tok/s  loss 0.700", "left": "0:06 left"}
    assert view._bar is None
    assert bar.live.is_started is False
    view.stop()


def test_a_new_piece_of_work_replaces_the_bar(clock):
    view = TerminalProgress(console(True))
    view.start("training", 4)
    first = view._bar
    view.start("scoring", 9)
    assert first is not None
    assert first.live.is_started is False
    assert view._bar is not None
    assert view._bar.tasks[0].description == "scoring"
    view.stop()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (61, "1:01"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_time_left_is_read_like_a_clock(seconds, shown):
    assert progress._clock(seconds) == shown


def test_work_within_larger_work_only_moves_its_bar_on():
    class Seen(NoProgress):
        calls: list[object]

        def __init__(self) -> None:
            self.calls = []

        def start(self, what: str, total: int, done: int = 0) -> None:
            self.calls.append("start")

        def advance(self, units: int, tokens: int, note: str = "") -> None:
            self.calls.append((units, tokens, note))

        def stop(self) -> None:
            self.calls.append("stop")

    seen = Seen()
    inner = Within(seen)
    inner.start("scoring", 5)
    inner.advance(2, 30, "note")
    inner.stop()
    assert seen.calls == [(2, 30, "note")]


class _Told(NoProgress):
    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def start(self, what: str, total: int, done: int = 0) -> None:
        self.heard.append(("start", what, total, done))

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        self.heard.append(("advance", units))

    def stop(self) -> None:
        self.heard.append(("stop",))


def test_short_work_shows_no_bar_and_long_work_one_from_where_it_is(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("sortal.training.progress.time.monotonic", lambda: now[0])
    told = _Told()
    view = Patient(told, seconds=2)
    view.start("first", 10)
    view.advance(4, 0)
    view.stop()
    assert told.heard == []
    view.start("second", 10)
    view.advance(3, 0)
    now[0] = 102.0
    view.advance(2, 0)
    view.stop()
    view.start("third", 5)
    assert told.heard == [("start", "second", 10, 3), ("advance", 2), ("stop",), ("start", "third", 5, 0)]
