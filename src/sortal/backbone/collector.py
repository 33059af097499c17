"""Python's collector of reference cycles, kept off where it has nothing to find.

Importing libraries and reading a model makes a million objects that stay. The collector goes through them again and again while they
are made, once more when it is switched on again, and twice when the process ends: of the 8.0 s of CPU that one answer of a head of
135 M parameters took, that was 2.6.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ours = False


def own_process() -> None:
    """Say that this process is all ours: what its first pause leaves behind, and what lives at the end, is never searched."""
    global _ours
    if not _ours:
        _ours = True
        atexit.register(gc.freeze)


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
        if _ours and not gc.get_freeze_count():  # later ones may find a model that nobody uses any more
            gc.freeze()
        gc.enable()
