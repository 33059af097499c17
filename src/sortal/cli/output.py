"""Where a verb's words go: people read stderr, programs read the last line of stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

# Tables of metrics.json that a one-line summary leaves out.
LONG = frozenset({"per_label", "confusions", "coverage_table", "calibration_bins", "bands", "propensity"})


def say(line: str) -> None:
    """A line for people."""
    print(line, file=sys.stderr, flush=True)


def show(*renderables: Any) -> None:
    """Tables for people, on stderr so that stdout stays a program's."""
    from rich.console import Console

    console = Console(stderr=True)
    for item in renderables:
        console.print(item)


def summary(values: dict[str, Any]) -> None:
    """The JSON line that ends stdout under ``--json``."""
    print(json.dumps(values, ensure_ascii=False, default=str), flush=True)
