"""What to take, in words: the best method and the cheapest one near it, and never more than the tests support."""

from __future__ import annotations

from collections.abc import Sequence

from sortal.comparison.units import clock
from sortal.evaluation.comparison import MIN_ROWS, PairComparison
from sortal.evaluation.words import too_few


def advise(
    values: dict[str, float],
    seconds: dict[str, float],
    pairs: Sequence[PairComparison],
    n: int,
    devices: int = 1,
    groups: int | None = None,
) -> list[str]:
    """Sentences on quality and on cost.

    Args:
        values: the compared metric of every method, a mean over its runs.
        seconds: seconds of training of every method that says so.
        pairs: every two methods, tested.
        n: test rows.
        devices: kinds of devices that the runs were made on.
        groups: that the rows fall into; None where every row stands alone.
    """
    if not values:
        return ["No run has finished: there is nothing to recommend."]
    if len(values) == 1:
        return [f"Only {next(iter(values))} has finished runs: there is nothing to compare it with."]
    if (groups or n) < MIN_ROWS:
        return [f"{too_few(n, groups)} to recommend anything: give at least {MIN_ROWS}."]
    rows = f"{n:,} rows" if groups is None else f"{n:,} rows of {groups:,} groups"
    best = max(values, key=lambda name: values[name])
    beaten: list[str] = []
    level: list[str] = []
    below: dict[str, float] = {}  # how far below the best a method may lie
    for pair in pairs:
        if best in (pair.a, pair.b):
            other = pair.b if pair.a == best else pair.a
            (beaten if pair.winner == best else level).append(other)
            if pair.interval is not None:
                below[other] = pair.interval[1] if pair.a == best else -pair.interval[0]
    lead = f"{best} has the highest {pairs[0].metric}, {values[best]:.3f}"
    if not level:
        quality = f"{lead}, and is better than {listed(beaten)} beyond chance."
    elif beaten:
        quality = f"{lead}, and is better than {listed(beaten)} beyond chance, but not told apart from {listed(level)} by these {rows}."
    else:
        quality = f"No method is the best beyond chance: {lead}, and is not told apart from {listed(level)} by these {rows}."
    if devices > 1:
        return [
            quality,
            "The runs were made on different devices: what they cost is not to be compared.",
        ]
    return [quality, _cheapest(best, level, values, seconds, below)]


def _cheapest(
    best: str,
    level: list[str],
    values: dict[str, float],
    seconds: dict[str, float],
    below: dict[str, float],
) -> str:
    within = [name for name in (best, *level) if name in seconds]
    if not within:
        return "What training costs was not recorded."
    cheapest = min(within, key=lambda name: seconds[name])
    if cheapest == best:
        return f"Nothing that is cheaper to train comes near it: {best} takes {clock(seconds[best])}."
    share = "" if best not in seconds else f", where {best} takes {clock(seconds[best])}"
    found = f"The cheapest to train that is not told apart from it is {cheapest}: {values[cheapest]:.3f} after {clock(seconds[cheapest])}{share}."
    if below.get(cheapest, 0.0) <= 0:
        return found
    return f"{found} It may lie up to {100 * below[cheapest]:.1f} points below (95 % interval of the difference)."


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
