"""Python's collector of reference cycles, kept off where it has nothing to find.

Importing libraries and reading a model makes a million objects that stay. The collector goes through them again and again while they
are made, once more when it is switched on again, and twice when the process ends: a quarter of the CPU that one answer of a head of
135 M parameters took (benchmarks/results/startup.md).
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_set_aside = False  # whether the next pause ends with what lives then left out of later searches


def own_process() -> None:
    """Say that this process is all ours: what its first pause leaves behind, and what lives at the end, is never searched."""
    global _set_aside
    _set_aside = True
    atexit.register(gc.freeze)


@contextmanager
def paused() -> Iterator[None]:
    """Inside, no cycles are looked for; a collector that somebody else switched off stays off afterwards."""
    if not gc.isenabled():
        yield
        return
    global _set_aside
    gc.disable()
    try:
        yield
    finally:
        if _set_aside:  # once: what lives later may be a model that nobody uses any more
            _set_aside = False
            gc.freeze()
        gc.enable()
