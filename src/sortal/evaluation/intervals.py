"""Bootstrap intervals over rows, or clusters of rows: the resamples, and the interval of each metric's resampled values.

A resample is a vector of counts — how often each row was drawn — so a metric made of row sums is a matrix product with
a block of such vectors. Blocks are bounded, so memory does not grow with the number of resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from sortal.evaluation.clusters import Clusters, independent
from sortal.evaluation.scores import Floats

BLOCK_ELEMENTS = 1_000_000
LEVEL = 0.95


def resample_counts(
    n: int,
    n_resamples: int,
    seed: int,
    block_elements: int = BLOCK_ELEMENTS,
    clusters: Clusters | None = None,
) -> Iterator[Floats]:
    """Blocks float64 ``[n, c]``: how often each of ``n`` rows is in each of ``c`` resamples of ``n`` draws.

    With ``clusters`` as many of these are drawn as there are, each with all of its rows; the counts are then scaled to the sum n,
    so that a mean is the mean of the rows drawn. The resamples depend on ``n``, ``clusters`` and ``seed`` only, not on the block size.
    """
    rng = np.random.default_rng(seed)
    width = max(1, block_elements // max(n, 1))
    draws = independent(n, clusters)
    for start in range(0, n_resamples, width):
        c = min(width, n_resamples - start)
        drawn = rng.integers(0, draws, size=(c, draws))
        drawn *= c
        drawn += np.arange(c)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * c).reshape(draws, c).astype(np.float64)
        if clusters is not None:
            counts = counts[clusters.of_row]
            counts *= n / counts.sum(axis=0)
        yield counts


def bootstrap(
    statistics: Callable[[Floats], Mapping[str, Floats]],
    n: int,
    n_resamples: int,
    seed: int,
    clusters: Clusters | None = None,
) -> dict[str, Floats]:
    """Every statistic on every resample: name → float64 ``[n_resamples]``, NaN where it is undefined.

    Args:
        statistics: maps row counts ``[n, c]`` to values ``[c]`` per name.
        n: rows.
        n_resamples: resamples.
        seed: of the resamples.
        clusters: of the rows, where they are drawn instead.
    """
    blocks = [statistics(counts) for counts in resample_counts(n, n_resamples, seed, clusters=clusters)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]} if blocks else {}


def percentile_interval(values: Floats, level: float = LEVEL) -> list[float] | None:
    """``[low, high]`` between the outer percentiles of the defined values; None when none is defined."""
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return [float(low), float(high)]


def holding_interval(values: Floats, estimate: float, level: float = LEVEL) -> list[float] | None:
    """The percentile interval, widened to hold the estimate: a mean over many labels with few rows lies above most of its resamples.

    None where all resamples agree: an interval of no width would claim that every other row would, too.
    """
    outer = percentile_interval(values, level)
    if outer is None or np.nanmin(values) == np.nanmax(values):
        return None
    return [min(outer[0], estimate), max(outer[1], estimate)]


def basic_interval(values: Floats, estimate: float, level: float = LEVEL) -> list[float] | None:
    """The percentile interval mirrored at the estimate, cut at 0 and holding the estimate: for an error that noise inflates.

    Resampling adds the same upward bias that the estimate already has, so the percentile interval lies too high
    (Davison & Hinkley 1997, section 5.2).
    """
    outer = percentile_interval(values, level)
    if outer is None:
        return None
    return [min(estimate, max(0.0, 2 * estimate - outer[1])), max(estimate, 2 * estimate - outer[0])]


def share_interval(values: Floats, estimate: float, n: int, level: float = LEVEL) -> list[float] | None:
    """Of a share of ``n`` rows, or clusters of rows: the percentile interval, or where all rows agree `unanimous_interval`."""
    if estimate in (0.0, 1.0):
        return unanimous_interval(estimate == 1.0, n, level)
    return percentile_interval(values, level)


def unanimous_interval(all_right: bool, n: int, level: float = LEVEL) -> list[float]:
    """Clopper–Pearson interval of a share when all ``n`` rows agree, where resampling would claim certainty."""
    bound = ((1 - level) / 2) ** (1 / n)
    return [bound, 1.0] if all_right else [0.0, 1 - bound]
