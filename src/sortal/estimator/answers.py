"""y of the estimator as it is given: one label per row, an indicator matrix, or several labels per row."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from sortal.data.problems import listed
from sortal.errors import InputError
from sortal.estimator.texts import is_gap

Form = Literal["single", "indicator", "lists"]
_COLLECTIONS = (list, tuple, set, frozenset, np.ndarray)


@dataclass(frozen=True, eq=False)
class Answers:
    """The rows of a y.

    Attributes:
        form: ``single``, ``indicator`` (a 0/1 column per label) or ``lists`` (a collection of labels per row).
        rows: the labels of every row in the caller's own type; for an indicator matrix the positions of the columns with a 1.
        classes: labels ``[L]``: sorted, or for an indicator matrix its columns in their order.
        dtype: of the indicator matrix.
        named: whether its columns have names, those of a DataFrame.
    """

    form: Form
    rows: list[tuple[Any, ...]]
    classes: npt.NDArray[Any]
    dtype: npt.DTypeLike = np.int64
    named: bool = False


def read_answers(y: Any, n: int, name: str = "y") -> Answers:
    """The labels of ``n`` rows.

    As in scikit-learn, nested lists of 0 and 1 of one length are an indicator matrix; sets, tuples and words never are.

    Args:
        y: an array, list, Series, DataFrame or sparse matrix.
        n: the rows of X.
        name: of the argument, for messages.

    Raises:
        InputError: missing labels, labels of several types, or another number of rows.
        ValueError: continuous values, in scikit-learn's words.
    """
    if y is None:
        raise InputError("SortalClassifier requires y to be passed, but the target y is None", f"give {name}")
    values = _array(y)
    if values.ndim == 2 and values.shape[1] == 1:
        warnings.warn(
            f"A column-vector {name} was passed when a 1d array was expected. Please change the shape of y to (n_samples,), for example using ravel().",
            DataConversionWarning,
            stacklevel=4,
        )
        values = values[:, 0]
    if len(values) != n:
        raise InputError(
            f"{name} has {len(values):,} rows, and X {n:,}", "give one label, or one row of labels, per text"
        )
    if values.ndim == 1 and any(isinstance(row, _COLLECTIONS) for row in values):
        return _collections(values, name)
    _refuse_gaps(values, name)
    return (
        _labels(values, name) if values.ndim == 1 else _indicator(values, getattr(y, "columns", None), name)
    )


def _array(y: Any) -> npt.NDArray[Any]:
    """``[n]`` or ``[n, L]`` in which every label is what it was: NumPy alone would make two strings of ``[1, "a"]``."""
    if issparse(y):
        return np.asarray(y.toarray())
    if hasattr(y, "__array__"):
        values = np.asarray(y)
    else:
        rows = list(y)
        if _is_matrix(rows):
            return np.array([list(row) for row in rows])
        values = np.empty(len(rows), object)
        for position, row in enumerate(rows):
            values[position] = row
    alike = values.dtype == object and not any(
        isinstance(value, (str, *_COLLECTIONS)) or is_gap(value) for value in values.flat
    )
    return np.array(values.tolist()) if alike else values


def _is_matrix(rows: list[Any]) -> bool:
    """Rows of one number each, or of 0 and 1."""
    if not rows or not all(isinstance(row, list | np.ndarray) for row in rows):
        return False
    widths = {len(row) for row in rows}
    cells = [cell for row in rows for cell in row]
    numbers = all(isinstance(cell, bool | int | float | np.number | np.bool_) for cell in cells)
    return len(widths) == 1 and numbers and (widths == {1} or all(cell in (0, 1) for cell in cells))


def _labels(y: npt.NDArray[Any], name: str) -> Answers:
    """One label per row."""
    if y.dtype == object:
        classes = _sorted(set(y.tolist()), name).astype(object)
    else:
        check_classification_targets(y)
        classes = np.unique(y)
    return Answers("single", [(label,) for label in y.tolist()], classes)


def _collections(y: npt.NDArray[Any], name: str) -> Answers:
    """Several labels per row, or none."""
    for number, row in enumerate(y, start=1):
        if not isinstance(row, _COLLECTIONS) or any(map(is_gap, row)):
            raise InputError(
                f"{name}, row {number:,}: {row!r} is no list of labels",
                "give a list, [] for a text without labels",
            )
    plain = (row.tolist() if isinstance(row, np.ndarray) else row for row in y)
    rows = [tuple(dict.fromkeys(row)) for row in plain]
    return Answers("lists", rows, _sorted({label for row in rows for label in row}, name))


def _indicator(y: npt.NDArray[Any], columns: Any, name: str) -> Answers:
    """A column per label, named by the columns of a DataFrame or else by their position."""
    if y.ndim != 2 or y.dtype == object or not np.isin(y, (0, 1)).all():
        raise InputError(
            f"Unknown label type: {name} of shape {y.shape} is no matrix of 0 and 1",
            "give one label per row, an indicator matrix, or a list of labels per row",
        )
    named = columns is not None
    classes = np.array(list(columns)) if named else np.arange(y.shape[1])
    rows = [tuple(np.flatnonzero(row).tolist()) for row in y]
    return Answers("indicator", rows, classes, y.dtype, named)


def _sorted(labels: Iterable[Any], name: str) -> npt.NDArray[Any]:
    labels = list(labels)
    try:
        return np.array(sorted(labels))
    except TypeError:
        kinds = sorted({type(label).__name__ for label in labels})
        raise InputError(
            f"{name} mixes labels of the types {listed(kinds)}, which have no order",
            "give all labels in one type",
        ) from None


def _refuse_gaps(y: npt.NDArray[Any], name: str) -> None:
    if y.dtype.kind == "f" and np.isinf(y).any():
        raise InputError(f"Input {name} contains infinity", "give labels")
    if y.dtype.kind not in "fO":
        return
    rows = [number for number, row in enumerate(y, start=1) if any(map(is_gap, np.ravel(row)))]
    if rows:
        raise InputError(
            f"Input {name} contains NaN or None: no label in row {', '.join(f'{row:,}' for row in rows[:5])}",
            "label these rows, or leave them out",
        )
