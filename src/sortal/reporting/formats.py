"""Numbers, labels and texts as the report writes them."""

from __future__ import annotations

from collections.abc import Sequence

LABEL_WIDTH = 40
TEXT_WIDTH = 400


def share(value: float | None) -> str:
    """``0.912``; nothing for None or NaN."""
    return "" if value is None or value != value else f"{value:.3f}"


def span(interval: Sequence[float] | None) -> str:
    """``0.902 – 0.922``; nothing for None."""
    return "" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"


def label(name: str, width: int = LABEL_WIDTH) -> str:
    """A label on one line, cut in its middle, where long labels of one set tend to be alike least at both ends."""
    line = " ".join(name.split()) or repr(name)
    if len(line) <= width:
        return line
    tail = (width - 1) // 2
    return f"{line[: width - 1 - tail]}…{line[-tail:]}"


def labels(names: Sequence[str], most: int = 8) -> str:
    """``a, b and 3 more``; a dash for none."""
    shown = ", ".join(label(name) for name in names[:most])
    return (f"{shown} and {len(names) - most} more" if len(names) > most else shown) or "–"


def text(words: str, width: int = TEXT_WIDTH) -> str:
    """A text on one line, cut at its end."""
    line = " ".join(words.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
