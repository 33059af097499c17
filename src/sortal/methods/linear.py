"""One linear classifier per label (one-vs-rest) over sparse features: linear SVMs or logistic regressions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix, issparse

from sortal.methods.base import Scores
from sortal.methods.frequencies import Gold, label_counts, log_odds
from sortal.training.progress import NoProgress, ProgressView

Kind = Literal["svm", "logistic"]

# Weights that are kept, 8 bytes each: with 2,000 labels the 25,000 largest of each. Dropping the small weights of
# one-vs-rest classifiers costs next to nothing (DiSMEC, arXiv 1609.02521), and keeps thousands of labels in memory.
MAX_WEIGHTS = 50_000_000
_PASSES = 1000
_ROWS = 1024  # scored at once: a sparse product of all rows would take three times the memory of the scores
# liblinear's own for its dual solvers; scikit-learn's 1e-4 takes longer and ranks dev rows no better.
_TOLERANCE = 0.1


@dataclass(frozen=True, eq=False)
class Linear:
    """Scores ``x · weights + bias``.

    Attributes:
        weights: float32 sparse ``[F, L]``.
        bias: float32 ``[L]``; all there is for a text without known features.
    """

    weights: csr_matrix
    bias: npt.NDArray[np.float32]

    def score(self, x: csr_matrix) -> Scores:
        """Decision values fp32 ``[n, L]`` of features ``[n, F]``; a row's do not depend on the rows beside it."""
        scores = np.empty((x.shape[0], len(self.bias)), np.float32)
        for start in range(0, len(scores), _ROWS):
            rows = slice(start, start + _ROWS)
            product = x[rows] @ self._weights
            scores[rows] = product if isinstance(product, np.ndarray) else product.toarray()
        return np.add(scores, self.bias, out=scores)

    @cached_property
    def _weights(self) -> Any:
        # A product with a dense matrix is several times faster; with thousands of labels there is no room for it.
        dense = np.prod(self.weights.shape, dtype=np.int64) <= MAX_WEIGHTS
        return self.weights.toarray() if dense else self.weights


def fit_linear(
    x: csr_matrix,
    gold: Gold,
    n_labels: int,
    kind: Kind,
    c: float,
    *,
    seed: int,
    view: ProgressView | None = None,
    among: npt.NDArray[np.bool_] | None = None,
) -> Linear:
    """Fit the classifier of every label against all other rows, or those ``among`` which it is asked about.

    A label that no row has, or that all rows have, gets the log-odds of its frequency for every text.

    Args:
        x: float64 sparse ``[n, F]`` (liblinear's type: anything else is copied once per label).
        gold: int ``[n]`` (single-label) or 0/1 ``[n, L]`` (multi-label), sparse or not.
        n_labels: L.
        kind: ``svm`` (squared hinge loss) or ``logistic``.
        c: the inverse of the regularisation.
        seed: of the order in which the solver visits rows.
        view: told after each label.
        among: bool ``[n, L]``: the rows that each label is fitted on, its own included; None: all.
    """
    view = view or NoProgress()
    n, n_features = x.shape
    counts = label_counts(gold, n_labels)
    rows = np.full(n_labels, n) if among is None else np.maximum(among.sum(axis=0), 1)
    bias = log_odds(counts, rows).astype(np.float32)
    kept = max(1, MAX_WEIGHTS // n_labels)
    columns: list[npt.NDArray[np.int32]] = []
    values: list[npt.NDArray[np.float32]] = []
    view.start(f"{kind} C={c:g}", n_labels)
    for label, positive in enumerate(_positives(gold, n_labels)):
        weights = np.zeros(n_features)
        if n_features and 0 < counts[label] < rows[label]:
            own = slice(None) if among is None else np.flatnonzero(among[:, label])
            weights, bias[label] = _fit_one(x[own], positive[own], kind, c, seed)
        chosen = _largest(weights, kept)
        columns.append(chosen)
        values.append(weights[chosen].astype(np.float32))
        view.advance(1, 0)
    view.stop()
    ends = np.cumsum([0, *(len(chosen) for chosen in columns)])
    parts = (np.concatenate(values), np.concatenate(columns), ends)
    return Linear(csc_matrix(parts, shape=(n_features, n_labels)).tocsr(), bias)


def _positives(gold: Gold, n_labels: int) -> Iterator[npt.NDArray[np.bool_]]:
    if issparse(gold):
        columns = csc_matrix(gold)
        for label in range(n_labels):
            positive = np.zeros(columns.shape[0], np.bool_)
            positive[columns.indices[columns.indptr[label] : columns.indptr[label + 1]]] = True
            yield positive
        return
    dense = np.asarray(gold)
    for label in range(n_labels):
        yield dense == label if dense.ndim == 1 else dense[:, label] != 0


def _fit_one(
    x: csr_matrix, positive: npt.NDArray[np.bool_], kind: Kind, c: float, seed: int
) -> tuple[npt.NDArray[np.float64], float]:
    from sklearn.exceptions import ConvergenceWarning  # a tenth of a second, and only fitting needs it
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    settings = {"C": c, "tol": _TOLERANCE, "max_iter": _PASSES, "dual": True, "random_state": seed}
    model = LinearSVC(**settings) if kind == "svm" else LogisticRegression(solver="liblinear", **settings)
    with warnings.catch_warnings():
        # A candidate that did not settle is judged on dev like every other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, positive)
    return model.coef_[0], float(model.intercept_[0])


def _largest(weights: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.int32]:
    """Positions, ascending, of the at most ``most`` weights with the largest size; zeros are never among them."""
    chosen = np.flatnonzero(weights)
    if len(chosen) > most:
        size = np.abs(weights[chosen])
        chosen = np.sort(chosen[np.argsort(-size, kind="stable")[:most]])
    return chosen.astype(np.int32)
