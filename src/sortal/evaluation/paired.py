"""Two systems on the same rows: resampled differences, with and without seeds, and the randomisation test.

A system is one or more training runs, each a `LabelMetrics` of the same rows; its value is the mean metric of its runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import lcm

import numpy as np
from scipy.special import stdtr

from sortal.evaluation.clusters import Clusters
from sortal.evaluation.intervals import BLOCK_ELEMENTS, bootstrap
from sortal.evaluation.label_metrics import LabelMetrics
from sortal.evaluation.scores import Floats

# Two exchanges that give the same difference may differ in the last bits of their sums.
_TIE = 1e-12


def run_values(runs: Sequence[LabelMetrics], metric: str) -> Floats:
    """The metric of each run over all rows: ``[S]``."""
    return np.array([run.values(run.sums(np.ones((run.n, 1))))[metric][0] for run in runs])


def resample_runs(
    runs: Sequence[LabelMetrics], metric: str, n_resamples: int, seed: int, clusters: Clusters | None = None
) -> Floats:
    """The metric of each run on the same resampled rows, or clusters: ``[S, n_resamples]``; their differences are paired."""
    values = bootstrap(
        lambda counts: {str(k): run.resampled(counts)[metric] for k, run in enumerate(runs)},
        runs[0].n,
        n_resamples,
        seed,
        clusters,
    )
    return np.stack([values[str(k)] for k in range(len(runs))])


def seed_variance(points: Floats, resampled: Floats) -> float:
    """Variance of a run's metric that a new training seed adds, beyond what a finite test set explains.

    Runs differ on a finite test set even when their true metrics are equal, and resampling the rows already contains
    that part; it is subtracted here, so that it does not count twice. Negative when rows explain more than all.

    Args:
        points: ``[S]``, S ≥ 2: the metric of each run over all rows.
        resampled: ``[S, R]``: the same on resampled rows.
    """
    apart = resampled - resampled.mean(axis=0)
    of_rows = apart.var(axis=1).mean() * len(points) / (len(points) - 1)
    return float(points.var(ddof=1) - of_rows)


def resampled_difference(a: tuple[Floats, Floats], b: tuple[Floats, Floats], seed: int) -> Floats:
    """``[R]`` draws of the difference of two systems' mean metric over new rows and, where known, new seeds.

    Rows are resampled for all runs together. The seeds' part is then drawn from Student's t with the variance between
    runs (`seed_variance`) and Welch–Satterthwaite degrees of freedom. Resampling the runs as well (the crossed bootstrap:
    Owen 2007, Annals of Applied Statistics 1:386–411) would count the chance that rows and seeds share three times,
    and miss the tails that two to five runs cannot show. Simulated for accuracy on 400 rows, where seeds add nothing,
    as much as the rows, or far more, to one system or both, 95 % intervals cover 95–97 % with 3 or 5 runs of each system
    and 92–97 % with 2.

    Args:
        a: (`run_values` ``[S]``, `resample_runs` ``[S, R]``) of the first system.
        b: of the second, on the same resamples.
        seed: of the draws for seeds; not used when both systems have one run.
    """
    rows, spread, freedom = _rows_and_seeds(a, b)
    if spread == 0:
        return rows
    result: Floats = rows + spread * np.random.default_rng(seed).standard_t(freedom, len(rows))
    return result


def difference_p(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    """Two-sided p-value of "no difference" by what `resampled_difference` draws: twice the chance of the far side of 0.

    The seeds' part is not drawn but integrated, so that p can be as small as it is: the smallest that 2,000 draws can show,
    0.001, would not survive Holm's correction for the pairs of eleven methods. Where seeds add nothing it can be 0; the
    randomisation test of the same rows cannot.

    Args:
        a: (`run_values` ``[S]``, `resample_runs` ``[S, R]``) of the first system.
        b: of the second, on the same resamples.
    """
    rows, spread, freedom = _rows_and_seeds(a, b)
    if spread == 0:
        below, above = (rows <= 0).mean(), (rows >= 0).mean()
    else:
        below, above = (stdtr(freedom, sign * rows / spread).mean() for sign in (-1, 1))
    return min(1.0, 2 * float(min(below, above)))


def _rows_and_seeds(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> tuple[Floats, float, float]:
    """Differences on resampled rows ``[R]``; standard deviation and degrees of freedom of what seeds add to them."""
    rows: Floats = a[1].mean(axis=0) - b[1].mean(axis=0)
    several = [system for system in (a, b) if len(system[0]) > 1]
    parts = np.array([max(0.0, seed_variance(*system)) / len(system[0]) for system in several])
    variance = float(parts.sum())
    if variance == 0:
        return rows, 0.0, np.inf
    freedom = variance**2 / (parts**2 / [len(points) - 1 for points, _ in several]).sum()
    # Below 2 the tails are so heavy that the interval says nothing at all.
    return rows, variance**0.5, max(2.0, float(freedom))


def randomisation_p(
    a: Sequence[LabelMetrics],
    b: Sequence[LabelMetrics],
    metric: str,
    n_rounds: int,
    seed: int,
    clusters: Clusters | None = None,
) -> float:
    """Two-sided p-value of the paired approximate randomisation test (Noreen 1989; Yeh 2000, COLING).

    Each round exchanges the two systems' answers on a random half of the rows, all runs of a row together; p is
    (rounds with at least the observed difference + 1) / (rounds + 1). It holds the given runs fixed: rows are chance,
    seeds are not. Systems with different numbers of runs are paired run by run, the shorter repeated.

    Args:
        a: runs of the first system.
        b: runs of the second, over the same rows.
        metric: of `LABEL_METRICS`.
        n_rounds: exchanges.
        seed: of the exchanges.
        clusters: of the rows, whose answers are then exchanged together.
    """
    pairs = [(a[k % len(a)], b[k % len(b)]) for k in range(lcm(len(a), len(b)))]
    changes = [second.features - first.features for first, second in pairs]
    # Where all runs answer alike, an exchange changes nothing.
    rows = np.flatnonzero(sum(abs(change).sum(axis=0) for change in changes))
    changes = [change[:, rows] for change in changes]
    if clusters is None:
        coins, coin_of = len(rows), None
    else:
        found, coin_of = np.unique(clusters.of_row[rows], return_inverse=True)
        coins = len(found)
    whole = np.ones((a[0].n, 1))
    sums = [(first.sums(whole), second.sums(whole)) for first, second in pairs]

    def differences(exchanged: Floats) -> Floats:
        total = np.zeros(exchanged.shape[1])
        for (first, second), change, (sums_a, sums_b) in zip(pairs, changes, sums, strict=True):
            moved = change @ exchanged
            total += first.values(sums_a + moved)[metric] - second.values(sums_b - moved)[metric]
        return np.abs(total)

    observed = differences(np.zeros((len(rows), 1)))[0]
    width = max(1, BLOCK_ELEMENTS // max(len(rows), 1))
    reached = sum(
        int((differences(block if coin_of is None else block[coin_of]) >= observed - _TIE).sum())
        for block in _exchanges(coins, n_rounds, seed, width)
    )
    return (reached + 1) / (n_rounds + 1)


def _exchanges(n: int, n_rounds: int, seed: int, width: int) -> Iterator[Floats]:
    """Blocks of fair 0/1 coins, float64 ``[n, c]`` with c at most ``width``; they depend on ``n`` and ``seed`` only."""
    rng = np.random.default_rng(seed)
    words = -(-n // 64)
    for start in range(0, n_rounds, width):
        c = min(width, n_rounds - start)
        drawn = rng.integers(0, 2**64, size=(c, words), dtype=np.uint64)
        coins = np.unpackbits(drawn.view(np.uint8), axis=1)[:, :n]
        yield np.ascontiguousarray(coins.T, dtype=np.float64)
