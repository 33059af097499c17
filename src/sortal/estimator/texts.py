"""X of the estimator: lists, arrays, Series and DataFrames of text, as one text per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from sortal.data.records import Batch
from sortal.data.textcells import TextJoiner, check_template, is_missing
from sortal.errors import InputError


@dataclass(frozen=True)
class TextColumns:
    """The columns of X: ``names`` in order, each with its ``n`` cells as Python values, missing ones as None."""

    names: tuple[str, ...]
    cells: tuple[list[Any], ...]
    n: int

    def join(self, template: str | None, source: str) -> list[str]:
        """One text per row, as the command line joins several text columns; a row without any is an empty text.

        Raises:
            DataError: a cell holds a list, an object or bytes. ConfigError: ``template`` names another column.
        """
        columns = check_template(template, self.names)
        batch = Batch(dict(zip(self.names, self.cells, strict=True)), self.n, first_row=1)
        return TextJoiner(source, columns, template).join(batch)


def read_columns(estimator: Any, X: Any, *, reset: bool) -> TextColumns:
    """The text columns of X, whose number (and names, of a DataFrame) the estimator remembers or checks.

    Args:
        estimator: gets ``n_features_in_`` and, of a DataFrame, ``feature_names_in_``.
        X: one-dimensional: a text per row. Two-dimensional: a text column per column; a list of lists is rows.
        reset: remember (fit), else check (predict).

    Raises:
        InputError: X is one string, sparse, complex, numbers in one dimension, empty, or has other columns than at fit.
    """
    if isinstance(X, str | bytes):
        raise InputError("X is one string, not a list of texts", "write [text]")
    if issparse(X):
        raise InputError("Sparse input is not supported: X holds texts", "give texts, not features of texts")
    if hasattr(X, "__array__") and not hasattr(X, "ndim") and not hasattr(X, "columns"):
        X = np.asarray(X)
    if getattr(X, "ndim", 1) == 2 or hasattr(X, "columns"):
        return _table(estimator, X, reset)
    if not hasattr(X, "__len__") or isinstance(X, dict | set | frozenset):
        raise InputError(f"X is a {type(X).__name__}, not a list of texts", "give a list, array or Series")
    if isinstance(X, list | tuple) and X and all(isinstance(row, list | tuple | np.ndarray) for row in X):
        return _table(estimator, _rows(X), reset)
    return _series(estimator, X, reset)


def is_gap(value: Any) -> bool:
    """None, NaN, and the missing values of pandas."""
    return is_missing(value) or type(value).__name__ in ("NAType", "NaTType")


def _series(estimator: Any, X: Any, reset: bool) -> TextColumns:
    """One text per row."""
    if getattr(X, "ndim", 1) != 1:
        raise InputError(f"X has {X.ndim} dimensions", "give one text per row, or rows of text columns")
    cells = _cells(X)
    dtype = getattr(X, "dtype", None)
    if getattr(dtype, "kind", "O") in "iufc" and any(cell is not None for cell in cells):
        raise InputError(
            f"X is a one-dimensional array of {dtype}, and a row of it no text. Expected texts, or a 2D array of columns",
            "Reshape your data with X.reshape(-1, 1) to have its numbers read as texts, or convert them to strings",
        )
    if reset:
        estimator.n_features_in_ = 1
        vars(estimator).pop("feature_names_in_", None)
    elif estimator.n_features_in_ != 1:
        raise InputError(
            f"X has 1 features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} features as input",
            "give the same text columns as at fit",
        )
    return TextColumns(("text",), (cells,), len(cells))


def _table(estimator: Any, X: Any, reset: bool) -> TextColumns:
    """Several text columns per row."""
    if getattr(getattr(X, "dtype", None), "kind", "O") == "c":
        raise InputError("Complex data not supported: X holds texts", "give texts")
    n, width = X.shape
    if width == 0:
        raise InputError(
            f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.",
            "give at least one text column",
        )
    if hasattr(X, "columns"):
        names = tuple(str(name) for name in X.columns)
        if len(set(names)) != len(names):
            raise InputError(f"X names a column twice: {', '.join(names)}", "name each column once")
        cells = tuple(_cells(X[name]) for name in X.columns)
    else:
        names = ("text",) if width == 1 else tuple(f"x{column}" for column in range(width))
        cells = tuple(_cells(X[:, column]) for column in range(width))
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return TextColumns(names, cells, n)


def _rows(X: Any) -> npt.NDArray[Any]:
    """A list of rows as an object array [n, columns], so that no cell is changed by its neighbours."""
    widths = {len(row) for row in X}
    if len(widths) > 1:
        raise InputError(
            f"X has rows of {min(widths)} to {max(widths)} columns",
            "give every row the same number of columns",
        )
    table = np.empty((len(X), widths.pop()), object)
    for position, row in enumerate(X):
        table[position] = list(row)
    return table


def _cells(column: Any) -> list[Any]:
    if hasattr(column, "tolist"):
        values = column.tolist()
    elif hasattr(column, "to_list"):
        values = column.to_list()
    else:
        values = [value.item() if isinstance(value, np.generic) else value for value in column]
    return [None if is_gap(value) else value for value in values]
