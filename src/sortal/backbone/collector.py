"""Python's collector of reference cycles, kept off where it has nothing to find.

Importing libraries and reading a model makes a million objects that stay. The collector goes through them again and again while they
are made, and twice more when the process ends: of the 8.0 s of CPU that one answer of a 135 M head took, that was 2.3.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Inside, no cycles are looked for; a collector that somebody else switched off stays off afterwards."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def leave_at_exit() -> None:
    """Let what lives when this process ends go with it, unsearched; for a process that is all ours. May be called twice."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
