"""Scores of several classifiers, added with the weights under which held-out labels are most likely (a logarithmic opinion pool)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, softmax

from sortal.evaluation.scores import Floats, Task

_DOUBT = 0.25 * 2**0.5  # of each weight, before dev has said anything: of two that sum to 1, 0.25 each way


def best_weights(
    scores: Sequence[NDArray[Any]], gold: NDArray[Any], task: Task, usual: Sequence[float]
) -> Floats:
    """The weights ``[k]``, none below 0, sum 1, that make ``gold`` most likely under the weighted sum of ``scores``.

    Minimises the summed negative log-likelihood, convex in the weights, plus a Gaussian prior's around ``usual``: it weighs as much
    as a handful of rows, which alone would give one classifier everything, and does not show on hundreds.

    Args:
        scores: k × ``[n, L]``, each at its own temperature.
        gold: int ``[n]`` (single-label) or 0/1 ``[n, L]``.
        usual: the weights without any rows.
    """
    start = np.asarray(usual, np.float64)
    if len(gold) == 0:
        return start
    stacked = [np.asarray(each, np.float64) for each in scores]
    rows = np.arange(len(gold))

    def objective(weights: Floats) -> tuple[float, Floats]:
        z = sum(weight * each for weight, each in zip(weights, stacked, strict=True))
        if task == "single":
            residual = softmax(z, axis=1)
            top = z.max(axis=1, keepdims=True)
            loss = np.log(np.exp(z - top).sum(axis=1)).sum() + (top[:, 0] - z[rows, gold]).sum()
            residual[rows, gold] -= 1
        else:
            residual = expit(z) - gold
            loss = (np.logaddexp(0.0, z) - gold * z).sum()
        off = (weights - start) / _DOUBT
        slope = np.array([float((residual * each).sum()) for each in stacked])
        return (float(loss) + 0.5 * float(off @ off)) / len(rows), (slope + off / _DOUBT) / len(rows)

    found = minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(stacked),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-10, "maxiter": 200},
    )
    weights = np.clip(found.x, 0.0, None)
    best: Floats = weights / weights.sum()
    return best
