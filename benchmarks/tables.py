"""Tables of results in Markdown, and how figures are written in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table: the names of its columns and a row of cells after another."""
    return [_line(columns), "|" + "---|" * len(columns), *map(_line, rows)]


def span(value: float, interval: Iterable[float]) -> str:
    """A value of 0 to 1 with its interval."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(value, *interval)


def points(difference: float, interval: Iterable[float] = ()) -> str:
    """A difference in points of a hundred, with its interval where one is given."""
    shown = ", ".join(f"{100 * end:+.1f}" for end in interval)
    return f"{100 * difference:+.1f}" + (f" [{shown}]" if shown else "")


def p_value(p: float) -> str:
    """The p of a test."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
