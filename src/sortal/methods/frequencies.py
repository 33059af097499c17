"""How frequent the labels of the training rows are, as scores; the best guess where a text says nothing."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Gold: TypeAlias = npt.NDArray[Any] | csr_array


def label_counts(gold: Gold, n_labels: int) -> Ints:
    """Rows of each label, int64 ``[L]``, from int ``[n]`` (single-label) or 0/1 ``[n, L]`` (multi-label, sparse or not) gold."""
    if gold.ndim == 1:
        return np.bincount(gold, minlength=n_labels).astype(np.int64)
    return np.asarray(gold.sum(axis=0, dtype=np.int64))


def log_priors(counts: npt.NDArray[Any], rows: int) -> Floats:
    """Log frequency of each label in ``rows`` ≥ 1 rows; one without rows counts as half a row, so that all are finite."""
    result: Floats = np.log(np.maximum(counts, 0.5) / rows)
    return result


def log_odds(counts: npt.NDArray[Any], rows: int | Ints) -> Floats:
    """Log-odds of each label's frequency in ``rows`` ≥ 1 rows, of all labels or of each; half a row away from never and from always."""
    held = np.clip(counts, 0.5, rows - 0.5)
    result: Floats = np.log(held) - np.log(rows - held)
    return result
