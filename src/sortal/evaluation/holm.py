"""Holm's step-down correction of several p-values (Holm 1979, Scandinavian Journal of Statistics 6:65–70)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order: the chance of any false winner stays below the level they are read at.

    The k-th smallest of m is multiplied by m − k + 1, never falls below a smaller one's, and is at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]
