"""Accidents that happen to a training run at an exact instant; each is arranged by calling what these functions return."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Arranged = Callable[[], None]


def killed_after_calls(calls: int) -> Arranged:
    """SIGKILL after so many calls of Python and C functions since training began."""
    return partial(_killed_after_calls, calls)


def counting_calls(file: Path) -> Arranged:
    """No accident: the number of those calls up to the end of the process goes to ``file``."""
    return partial(_counting_calls, file)


def killed_in_a_save(at: int) -> Arranged:
    """SIGKILL before or after the ``at // 2``-th fsync or rename since training began; these happen inside saves only."""
    return partial(_killed_in_a_save, at)


def signalled_at_step(step: int, number: int) -> Arranged:
    """A signal while that optimiser step (1-based) is computed."""
    return partial(_at_step, step, partial(_signalled, number))


def signalled_while_reading(number: int) -> Arranged:
    """A signal while the data is read."""
    return partial(_signalled_while_reading, number)


def signalled_while_evaluating(evaluation: int, number: int) -> Arranged:
    """A signal inside that evaluation (1-based) on dev."""
    return partial(_signalled_while_evaluating, evaluation, number)


def held_at_step(step: int, marker: Path) -> Arranged:
    """Makes the file ``marker`` at that step, and then only waits."""
    return partial(_at_step, step, partial(_held, marker))


def nobody_reads_stdout() -> Arranged:
    """Stdout is a pipe whose reader has gone, as after ``| head``."""
    return _nobody_reads_stdout


def _nobody_reads_stdout() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


def _killed_after_calls(calls: int) -> None:
    seen = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        if event.endswith("call"):
            seen += 1
            if seen == calls:
                _signalled(signal.SIGKILL)

    _when_training_begins(lambda: sys.setprofile(profile))


def _counting_calls(file: Path) -> None:
    from multiprocessing.util import Finalize

    seen = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        seen += event.endswith("call")

    def finish() -> None:
        sys.setprofile(None)
        file.write_text(str(seen))

    _when_training_begins(lambda: sys.setprofile(profile))
    Finalize(None, finish, exitpriority=0)


def _killed_in_a_save(at: int) -> None:
    seen = 0

    def instant() -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            _signalled(signal.SIGKILL)

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            instant()
            result = function(*arguments)
            instant()
            return result

        return call

    def arrange() -> None:
        os.fsync, Path.rename = around(os.fsync), around(Path.rename)  # type: ignore[method-assign]

    _when_training_begins(arrange)


def _signalled_while_reading(number: int) -> None:
    from sortal import run

    read = run.read_parts

    def signalled(*arguments: Any) -> Any:
        _signalled(number)
        return read(*arguments)

    run.read_parts = signalled


def _signalled_while_evaluating(evaluation: int, number: int) -> None:
    from sortal.methods.head import HeadScorer
    from sortal.training.loop import Loop

    score, evaluate, seen = HeadScorer.score_encoded, Loop._evaluate, 0

    def scored(*arguments: Any, **more: Any) -> Any:
        if seen == evaluation:
            _signalled(number)
        return score(*arguments, **more)

    def evaluated(loop: Loop) -> None:
        nonlocal seen
        seen += 1
        evaluate(loop)

    HeadScorer.score_encoded, Loop._evaluate = scored, evaluated  # type: ignore[method-assign]


def _at_step(step: int, happen: Arranged) -> None:
    from sortal.training.loop import Loop

    take = Loop._step

    def stepped(loop: Loop, batch: Any) -> None:
        if loop.progress.step + 1 == step:
            happen()
        take(loop, batch)

    Loop._step = stepped  # type: ignore[method-assign]


def _when_training_begins(arrange: Arranged) -> None:
    from sortal.training.loop import Loop

    train = Loop.run

    def run(loop: Loop) -> Any:
        arrange()
        return train(loop)

    Loop.run = run  # type: ignore[method-assign]


def _signalled(number: int) -> None:
    os.kill(os.getpid(), number)


def _held(marker: Path) -> None:
    marker.touch()
    signal.pause()
