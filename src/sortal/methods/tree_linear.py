"""Linear classifiers as the units of a tree: their decision values at the temperature at which their products are probabilities.

A temperature of the labels' scores comes too late for products: values that are twice too large make every step down the tree
twice too sure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from sortal.evaluation.calibration import TEMPERATURE_RANGE
from sortal.evaluation.scores import Task
from sortal.hierarchy.units import NodeUnits, Units
from sortal.methods.base import Scores
from sortal.methods.linear import Linear


def tempered(
    linear: Linear, values: Scores, units: Units, gold: npt.NDArray[Any], task: Task
) -> tuple[Linear, Scores]:
    """``linear`` divided by the temperature under which dev is most likely, and its scores of the dev rows' labels ``[n, L]``.

    With the prior of `fit_temperature`, so that few rows do not claim certainty.

    Args:
        values: of the dev rows, ``[n, U]``.
        gold: of the dev rows, int ``[n]`` or 0/1 ``[n, L]``.
    """
    if isinstance(units, NodeUnits) and not units.given_parent:  # nothing is multiplied
        return linear, units.scores(values)

    def objective(log_t: float) -> float:
        scores = units.scores(values / np.exp(log_t)).astype(np.float64)
        if task == "single":
            loss = (logsumexp(scores, axis=1) - scores[np.arange(len(gold)), gold]).sum()
        else:
            loss = (np.logaddexp(0.0, scores) - gold * scores).sum()
        return float(loss) + 0.5 * log_t**2

    low, high = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(objective, bounds=(low, high), method="bounded", options={"xatol": 1e-3})
    t = np.float32(np.exp(found.x)) if len(gold) else np.float32(1)
    return Linear(linear.weights / t, linear.bias / t), units.scores(values / t)
