"""The figures of a run without some of its test rows, such as those that training has seen, and what these rows add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.evaluation.clusters import Clusters, independent
from sortal.evaluation.intervals import bootstrap, percentile_interval, share_interval
from sortal.evaluation.label_metrics import SHARES, LabelMetrics
from sortal.evaluation.scores import Floats, Task

Answers = tuple[NDArray[Any], NDArray[Any]]


def without_rows(
    runs: Sequence[Answers],
    n_labels: int,
    task: Task,
    rows: NDArray[np.int64],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    clusters: Clusters | None = None,
) -> dict[str, Any]:
    """Figures on all test rows but ``rows``, defined as on a test file that never had them; means over ``runs``.

    Both figures are taken on the same resamples of all rows, so that the interval of their difference knows that most rows
    are in both.

    Args:
        runs: gold and predicted labels of each run on the same ``n`` rows, as in `LabelMetrics.build`.
        n_labels: of the label space.
        task: single or multi.
        rows: int64 ``[k]``, positions that are left out.
        n_resamples: bootstrap resamples; 0 leaves the intervals out.
        seed: of the resamples.
        clusters: of all rows, where they are drawn instead.

    Returns:
        ``n`` rows that remain; ``figures``, ``intervals`` (95 %) of every label metric on them, and ``differences``: metric →
        ``value`` (all rows less those that remain) and ``interval``. Without rows that remain, the three are empty.
    """
    n = len(runs[0][0])
    kept = np.setdiff1d(np.arange(n), rows)
    found: dict[str, Any] = {"n": len(kept), "figures": {}, "intervals": {}, "differences": {}}
    if not len(kept):
        return found
    pairs = [
        (
            LabelMetrics.build(gold, predicted, n_labels, task),
            LabelMetrics.build(gold[kept], predicted[kept], n_labels, task),
        )
        for gold, predicted in runs
    ]
    whole, left = (
        _mean([one.values(one.sums(np.ones((one.n, 1)))) for one in side])
        for side in zip(*pairs, strict=True)
    )

    def statistics(weights: Floats) -> dict[str, Floats]:
        inside = weights[kept]
        total = inside.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = inside * (len(kept) / total)  # a share is taken of all rows that remain
        inside[:, total == 0] = 0
        before = _mean([all_rows.resampled(weights) for all_rows, _ in pairs])
        after = {
            name: np.where(total > 0, values, np.nan)
            for name, values in _mean([some.resampled(inside) for _, some in pairs]).items()
        }
        return after | {f"all {name}": before[name] - after[name] for name in after}

    draws = bootstrap(statistics, n, n_resamples, seed, clusters)
    alone = min(len(kept), independent(n, clusters))
    for name, values in left.items():
        value = float(values[0])
        found["figures"][name] = value
        found["differences"][name] = {"value": float(whole[name][0]) - value, "interval": None}
        if draws:
            share = name in SHARES[task]
            found["intervals"][name] = (
                share_interval(draws[name], value, alone) if share else percentile_interval(draws[name])
            )
            found["differences"][name]["interval"] = percentile_interval(draws[f"all {name}"])
    return found


def _mean(runs: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}
