"""Labels of very different frequency."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding
from sortal.data.problems import counted

# From here on accuracy says little about the rare labels; below, common losses cope.
RATIO = 10
_ALMOST_ALL = 0.9
_SHOWN = 5


def check(context: CheckContext) -> Iterator[Finding]:
    """Of the training file: the most frequent label against the rarest."""
    labels, n = context.labels, len(context.train)
    counts = labels.counts("train")
    present = np.flatnonzero(counts)
    if len(present) < 2:
        return  # `rare-labels` says so
    order = present[np.argsort(counts[present], kind="stable")]
    most, least = int(order[-1]), int(order[0])
    ratio, share = counts[most] / counts[least], counts[most] / n
    if ratio < RATIO and share < _ALMOST_ALL:
        return
    frequent = f"{labels.names[most]!r} has {counted(int(counts[most]), 'row')} ({share:.0%})"
    rows, of = labels.examples("train", order[:_SHOWN])
    yield Finding(
        "imbalance",
        "warning" if share >= _ALMOST_ALL else "note",
        "train",
        f"{frequent}, {labels.names[least]!r} {counts[least]:,}: {ratio:,.0f} times as many"
        + (
            f"; always answering {labels.names[most]!r} would be right in {share:.0%}"
            if labels.single
            else ""
        ),
        "judge by macro-F1 and by label; weights may help rare labels "
        f"(--set {'class_weight' if labels.single else 'pos_weight'}=balanced)",
        rows,
        lambda i: f"{labels.names[of[i]]!r} has {counted(int(counts[of[i]]), 'row')}",
        count=int((counts[present] * min(RATIO, ratio) <= counts[most]).sum()),
        unit="label",
    )
