"""Which labels are taken for which: counts of (gold, given instead) and the rows behind a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sortal.evaluation.errors import confident_mistakes
from sortal.evaluation.predictions import Predictions
from sortal.evaluation.scores import Ints


@dataclass(frozen=True)
class Confusion:
    """Counts of label pairs over the test rows.

    Single-label: gold label (row) and answer (column); abstentions are in no column. Multi-label: in the same row of data, a gold
    label that was missed and a label that was wrongly given; the diagonal counts the labels that were rightly given.

    Attributes:
        counts: sparse int64 ``[L, L]``.
        names: labels in order.
    """

    counts: Any
    names: tuple[str, ...]

    @classmethod
    def build(cls, run: Predictions) -> Confusion:
        """Of a run with gold labels."""
        missed, wrong, hits = _sides(run)
        counts = (missed.T @ wrong).tolil()
        counts.setdiag(np.asarray(hits.sum(axis=0)).ravel())
        return cls(counts.tocsr().astype(np.int64), run.names)

    @property
    def errors(self) -> int:
        """All pairs off the diagonal."""
        return int(self.counts.sum() - self.counts.diagonal().sum())

    def most_confused(self, most: int) -> Ints:
        """Labels of the most frequent pairs, at most ``most``, in label order; all labels when there are no more."""
        if len(self.names) <= most:
            return np.arange(len(self.names))
        chosen: dict[int, None] = {}
        for gold, given, _ in self.pairs(most * most):
            new = {gold, given} - set(chosen)
            if len(chosen) + len(new) <= most:
                chosen |= dict.fromkeys(sorted(new))
        return np.array(sorted(chosen), dtype=np.int64)

    def among(self, labels: Ints) -> NDArray[np.int64]:
        """Dense int64 ``[k, k]`` of some labels."""
        return np.asarray(self.counts[labels][:, labels].toarray())

    def pairs(self, most: int) -> list[tuple[int, int, int]]:
        """(gold, given instead, count), most frequent first."""
        cells = self.counts.tocoo()
        off = (cells.row != cells.col) & (cells.data > 0)
        gold, given, count = cells.row[off], cells.col[off], cells.data[off]
        order = np.lexsort((given, gold, -count))[:most]
        return [(int(gold[i]), int(given[i]), int(count[i])) for i in order]


def examples(run: Predictions, pairs: list[tuple[int, int, int]]) -> list[int]:
    """For each pair, the row of data where the run is surest of the mistake."""
    missed, wrong, _ = _sides(run)
    surest = np.empty(len(run.ids), np.int64)
    mistakes = confident_mistakes(run)
    surest[:] = len(mistakes)
    surest[mistakes] = np.arange(len(mistakes))
    found = []
    for gold, given, _ in pairs:
        rows = np.flatnonzero((missed[:, [gold]].multiply(wrong[:, [given]])).toarray().ravel())
        found.append(int(rows[np.argmin(surest[rows])]))
    return found


def _sides(run: Predictions) -> tuple[Any, Any, Any]:
    """Sparse ``[n, L]``: gold labels that were missed, labels wrongly given, labels rightly given."""
    if run.gold is None:
        raise ValueError("these predictions have no gold labels")
    gold, given = (_indicator(side, len(run.names)) for side in (run.gold, run.predicted))
    hits = gold.multiply(given).tocsr()
    return (gold - hits).tocsc(), (given - hits).tocsc(), hits


def _indicator(labels: NDArray[Any], n_labels: int) -> Any:
    if labels.ndim == 2:
        return sparse.csr_array(labels.astype(np.int64))
    rows = np.flatnonzero(labels >= 0)
    return sparse.csr_array(
        (np.ones(len(rows), np.int64), (rows, labels[rows])), shape=(len(labels), n_labels)
    )
