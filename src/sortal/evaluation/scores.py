"""Scores ``[n, L]`` as every method produces them: checked once, turned into probabilities in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sortal.errors import DataError, ModelError

Task = Literal["single", "multi"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class LabelNames(Protocol):
    """What evaluation needs of a label space: ordered names and the task."""

    @property
    def names(self) -> tuple[str, ...]:
        """Label names; position = score column."""

    @property
    def task(self) -> Task:
        """One label per row, or any number."""


def softmax(scores: NDArray[Any], temperature: float = 1.0) -> Floats:
    """Softmax of ``scores / temperature`` over the labels: ``[n, L]`` float64, rows sum to one; −inf gives 0.

    Raises:
        ModelError: naming the first row with a NaN or +inf score, or with −inf for every label.
    """
    z = check_scores(scores, "single").astype(np.float64)
    z /= temperature
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z


def sigmoid(scores: NDArray[Any], temperature: float = 1.0) -> Floats:
    """Element-wise sigmoid of ``scores / temperature``: ``[n, L]`` float64; ±inf give 1 and 0.

    Raises:
        ModelError: naming the first row with a NaN score.
    """
    z = check_scores(scores, "multi").astype(np.float64)
    z /= temperature
    from scipy.special import expit  # a tenth of a second, and only multi-label scores need it

    result: Floats = expit(z, out=z)
    return result


BLOCK = 20_000_000  # numbers of a table that are worked on at a time


def row_blocks(rows: Ints, width: int) -> Iterator[Ints]:
    """``rows`` in blocks of at most `BLOCK` numbers of a table ``width`` wide; one block where that is enough."""
    size = max(1, BLOCK // max(width, 1))
    for start in range(0, max(len(rows), 1), size):
        yield rows[start : start + size]


def check_scores(scores: NDArray[Any], task: Task) -> NDArray[Any]:
    """``scores`` as an array, after checking that every row has probabilities.

    Raises:
        ModelError: not ``[n, L]`` with L ≥ 1, or the first row with a NaN score (single-label also: +inf, or −inf for
            every label).
    """
    array = np.asarray(scores)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ModelError(f"scores have shape {array.shape}, not (rows, labels)", "give one column per label")
    if task == "single":
        _refuse(~np.isfinite(array.max(axis=1)), "has a NaN or infinite score, or −inf for every label")
    else:
        _refuse(np.asarray(np.isnan(array).any(axis=1)), "has a NaN score")
    return array


def check_gold(gold: NDArray[Any], n: int, n_labels: int, task: Task) -> NDArray[Any]:
    """``gold`` as int64 ``[n]`` (single) or uint8 ``[n, L]`` (multi), after checking that it fits the scores.

    Raises:
        DataError: wrong shape, or the first row whose label is outside the label space or not 0/1.
    """
    array = np.asarray(gold)
    expected = (n,) if task == "single" else (n, n_labels)
    if array.shape != expected:
        raise DataError(
            f"gold labels have shape {array.shape}, the scores need {expected}",
            "give one row of gold labels per row of scores, encoded by the same label space",
        )
    if task == "single":
        outside = (array < 0) | (array >= n_labels)
        _refuse_gold(outside, f"a label index outside 0…{n_labels - 1}")
        return array.astype(np.int64, copy=False)
    if n_labels:
        _refuse_gold(((array != 0) & (array != 1)).any(axis=1), "a value other than 0 and 1")
    return array.astype(np.uint8, copy=False)


def _refuse(bad: NDArray[np.bool_], what: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0]) + 1
        raise ModelError(
            f"row {row} of the scores {what} ({int(bad.sum())} such row(s))",
            "the model's numbers overflowed: train again with a lower learning rate, or score in float32",
        )


def _refuse_gold(bad: NDArray[np.bool_], what: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0]) + 1
        raise DataError(
            f"row {row} of the gold labels has {what}", "encode the rows with the model's own label space"
        )
