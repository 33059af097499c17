"""What a run does to a program, where the program is someone else's."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sortal.errors import ConfigError, DataError, InputError, Interrupted


@contextmanager
def refusals() -> Iterator[None]:
    """Refused rows and settings as what scikit-learn's callers expect, a ValueError."""
    try:
        yield
    except (DataError, ConfigError) as error:
        raise InputError(error.what, error.fix) from None


@contextmanager
def stops() -> Iterator[None]:
    """A signal ends the caller's program: a search would take an ordinary error for a failed fit, and go on."""
    try:
        yield
    except Interrupted as stop:
        if stop.exit_code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from stop
        raise SystemExit(stop.exit_code) from stop


@contextmanager
def numpy_random_kept() -> Iterator[None]:
    """A run seeds NumPy's global generator, which belongs to the caller's program."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)
