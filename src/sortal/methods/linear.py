"""One linear classifier per label (one-vs-rest) over sparse features: linear SVMs or logistic regressions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
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

# Of a label: whether each row has it, and the rows it is asked about (None: all).
_Asked = tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64] | None]
_Found = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], float]

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
    workers: int = 1,
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
        workers: processes that fit labels side by side; the weights are the same to the bit.
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
    fitted = _each(
        x,
        (
            (positive, None if among is None else np.flatnonzero(among[:, label]))
            if n_features and 0 < counts[label] < rows[label]
            else None
            for label, positive in enumerate(_positives(gold, n_labels))
        ),
        (kind, c, seed, kept),
        workers,
    )
    for label, found in enumerate(fitted):
        chosen, weights, bias[label] = found or (np.zeros(0, np.int32), np.zeros(0, np.float32), bias[label])
        columns.append(chosen)
        values.append(weights)
        view.advance(1, 0)
    view.stop()
    ends = np.cumsum([0, *(len(chosen) for chosen in columns)])
    parts = (np.concatenate(values), np.concatenate(columns), ends)
    return Linear(csc_matrix(parts, shape=(n_features, n_labels)).tocsr(), bias)


def stop_workers() -> int:
    """End the processes of `fit_linear`, which would wait for more; the bytes of the largest at its peak."""
    from joblib.externals.loky import get_reusable_executor

    from sortal.training.budget import peak_of_children  # imports torch, which an answer does without

    get_reusable_executor().shutdown(wait=True)
    return peak_of_children()


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


def _each(
    x: csr_matrix, asked: Iterable[_Asked | None], how: tuple[Kind, float, int, int], workers: int
) -> Iterator[_Found | None]:
    """The classifiers of all labels in their order, in processes where there are several workers."""
    if workers == 1:
        yield from (_fit_one(x, each, *how) for each in asked)
        return
    from joblib import Parallel, delayed

    # Threads would share the solver's one generator of random numbers, and no two fits would be the same.
    yield from Parallel(n_jobs=workers, backend="loky", return_as="generator")(
        delayed(_fit_one)(x, each, *how) for each in asked
    )


def _fit_one(
    x: csr_matrix, asked: _Asked | None, kind: Kind, c: float, seed: int, kept: int
) -> _Found | None:
    """Positions and values of the ``kept`` largest weights, and the bias; None where there is nothing to tell apart."""
    if asked is None:
        return None
    from sklearn.exceptions import ConvergenceWarning  # a tenth of a second, and only fitting needs it
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    positive, own = asked
    if own is not None:
        x, positive = x[own], positive[own]
    settings = {"C": c, "tol": _TOLERANCE, "max_iter": _PASSES, "dual": True, "random_state": seed}
    model = LinearSVC(**settings) if kind == "svm" else LogisticRegression(solver="liblinear", **settings)
    with warnings.catch_warnings():
        # A candidate that did not settle is judged on dev like every other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, positive)
    weights = model.coef_[0]
    chosen = _largest(weights, kept)
    return chosen, weights[chosen].astype(np.float32), float(model.intercept_[0])


def _largest(weights: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.int32]:
    """Positions, ascending, of the at most ``most`` weights with the largest size; zeros are never among them."""
    chosen = np.flatnonzero(weights)
    if len(chosen) > most:
        size = np.abs(weights[chosen])
        chosen = np.sort(chosen[np.argsort(-size, kind="stable")[:most]])
    return chosen.astype(np.int32)
