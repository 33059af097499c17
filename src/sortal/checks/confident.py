"""Confident learning: which given labels a classifier that has not seen them contradicts with confidence.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 2021). What counts as
confident is a threshold of each label's own, its mean probability on the rows that have it: a label that the classifier is
never sure of, as a rare or a vague one, is not suspected everywhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


def thresholds(probabilities: Floats, given: Ints, least_rows: int) -> npt.NDArray[np.float64]:
    """Mean probability of each label on the rows that have it, float64 ``[L]``.

    Args:
        probabilities: ``[n, L]``, of rows that the classifier was not fitted on.
        given: int64 ``[n]``, the labels in question.
        least_rows: a label with fewer rows gets infinity, and is never suggested.
    """
    n_labels = probabilities.shape[1]
    counts = np.bincount(given, minlength=n_labels)
    own = np.bincount(given, probabilities[np.arange(len(given)), given], minlength=n_labels)
    return np.where(counts >= max(least_rows, 1), own / np.maximum(counts, 1), np.inf)


def suggestions(probabilities: Floats, given: Ints, confident: npt.NDArray[np.float64]) -> Ints:
    """The label that should stand there, int64 ``[n]``; -1 where the given one is not contradicted.

    Of the labels that reach their threshold the most probable counts; a given label that nobody knows enough about (its
    threshold is infinite) is not judged.
    """
    reached = np.where(probabilities >= confident, probabilities, -1.0)
    best = reached.argmax(axis=1)
    wrong = (reached.max(axis=1) >= 0) & (best != given) & np.isfinite(confident[given])
    return np.where(wrong, best, -1).astype(np.int64)
