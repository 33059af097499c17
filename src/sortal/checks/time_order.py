"""Training on what comes after the rows one is measured on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sortal.checks.base import CheckContext, Finding, NotChecked
from sortal.checks.dates import parse_dates
from sortal.data.problems import counted, shortened

Days = npt.NDArray[np.datetime64]
# Total variation between the labels of the older and the newer half: a tenth of the rows would need another label.
_DRIFT = 0.1


def check(context: CheckContext) -> Iterator[Finding]:
    """Dates that cannot be read, rows of dev and test that are not newer than training, labels that drift.

    Raises:
        NotChecked: no date column was named.
    """
    if context.dates is None:
        raise NotChecked("no date column was named (--date)")
    times = {}
    for part, cells in context.dates.items():
        times[part] = parse_dates(cells)
        missing = np.flatnonzero(np.isnat(times[part])).astype(np.int64)
        if len(missing):
            yield _unreadable(context, part, cells, missing)
    if np.isnat(times["train"]).all():
        return
    newest = np.nanmax(times["train"])
    for part in context.others:
        early = np.flatnonzero(times[part] <= newest).astype(np.int64)
        if len(early):
            yield _early(context, part, times, early, newest)
    if not context.others:
        yield _one_file(context, times["train"])
    yield from _drift(context, times["train"])


def _unreadable(
    context: CheckContext, part: str, cells: list[str | None], rows: npt.NDArray[np.int64]
) -> Finding:
    return Finding(
        "time-order",
        "warning",
        part,
        f"{counted(len(rows), 'row')} ({len(rows) / len(cells):.1%}) {'has' if len(rows) == 1 else 'have'} no date that can be read",
        "write dates as 2024-03-31 or 2024-03-31T09:00, or as seconds since 1970",
        rows,
        lambda i: "empty" if cells[rows[i]] is None else shortened(cells[rows[i]], 40),
    )


def _early(
    context: CheckContext,
    part: str,
    times: dict[str, Days],
    rows: npt.NDArray[np.int64],
    newest: np.datetime64,
) -> Finding:
    mine = times[part][rows]
    rows = rows[np.argsort(mine, kind="stable")]
    known = int((~np.isnat(times[part])).sum())
    later = int((times["train"] > np.nanmin(times[part])).sum())
    return Finding(
        "time-order",
        "error",
        part,
        f"{counted(len(rows), 'row')} of {known:,} with a date {'is' if len(rows) == 1 else 'are'} not newer than the newest training row "
        f"({_day(newest)}); {counted(later, 'training row')} {'is' if later == 1 else 'are'} newer than the oldest of them",
        "split by date: a model that has seen the future looks better than it will be on new rows",
        rows,
        lambda i: _day(times[part][rows[i]]),
    )


def _one_file(context: CheckContext, times: Days) -> Finding:
    known = np.flatnonzero(~np.isnat(times))
    order = known[np.argsort(times[known], kind="stable")]
    ends = np.unique(order[[0, -1]])
    return Finding(
        "time-order",
        "note",
        "train",
        f"rows are from {_day(times[order[0]])} to {_day(times[order[-1]])}, and a random split mixes past and future",
        "give the newest rows as --test, and the newest of the others as --dev",
        ends,
        lambda i: _day(times[ends[i]]),
        count=len(known),
    )


def _drift(context: CheckContext, times: Days) -> Iterator[Finding]:
    known = np.flatnonzero(~np.isnat(times))
    order = known[np.argsort(times[known], kind="stable")]
    half = len(order) // 2
    if half == 0:
        return
    rows = context.labels.rows["train"]
    older, newer = (np.asarray(rows[part].sum(axis=0)).ravel() for part in (order[:half], order[half:]))
    if not older.sum() or not newer.sum():
        return
    change = newer / newer.sum() - older / older.sum()
    distance = np.abs(change).sum() / 2
    # Two random halves differ, too: by about this much on average when nothing drifts.
    pooled = (older + newer) / (older + newer).sum()
    chance = float(np.sqrt(pooled * (1 - pooled) * (1 / older.sum() + 1 / newer.sum()) * 2 / np.pi).sum() / 2)
    if distance < max(_DRIFT, 2 * chance):
        return
    most = np.argsort(-np.abs(change), kind="stable")[:5]
    most = most[change[most] != 0]
    examples = np.array([context.labels.with_label("train", int(code))[-1] for code in most], np.int64)
    named = ", ".join(
        f"{context.labels.names[code]!r} {older[code] / older.sum():.0%} → {newer[code] / newer.sum():.0%}"
        for code in most[:3]
    )
    yield Finding(
        "time-order",
        "note",
        "train",
        f"labels change with time: between the older and the newer half of the rows {distance:.0%} of the labels move ({named})",
        "measure on the newest rows, and weigh recent rows more or train again from time to time",
        examples,
        lambda i: f"{context.labels.names[most[i]]!r} {change[most[i]]:+.1%}",
        count=len(most),
        unit="label",
    )


def _day(time: np.datetime64) -> str:
    return str(time.astype("datetime64[D]")) if time == time.astype("datetime64[D]") else str(time)
