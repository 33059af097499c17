"""The command of a benchmark as its results quote it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection


def command(module: str, without: Collection[str] = ("--data", "--runs")) -> str:
    """``python -m benchmarks.…`` with what was asked for; options in ``without`` are left out, with their one value: places of files on this machine."""
    words = iter(sys.argv[1:])
    kept = [word for word in words if word not in without or not next(words)]
    return shlex.join(["python", "-m", f"benchmarks.{module}", *kept])
