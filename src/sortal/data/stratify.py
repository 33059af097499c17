"""Iterative stratification of units (rows, or clusters of rows that stay together) over parts.

Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data" (ECML PKDD 2011): the label with the
fewest examples left is dealt out first, each example to the part that wants that label most. Two changes: an example
is a cluster with a count per label, and what is left after whole examples is given to the part that has fallen behind
in rows, so that parts keep their size with thousands of rare labels.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix


def stratify(
    counts: csr_matrix, sizes: npt.NDArray[np.int64], shares: tuple[float, ...], rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Part number of every unit, int8 [units]. Part 0 receives every unit that alone carries some label.

    Args:
        counts: [units, labels], how many rows of the unit carry the label.
        sizes: [units], rows of the unit.
        shares: share of the rows per part, summing to 1; part 0 is the training part.
        rng: decides the order within a label; nothing else is random.
    """
    units, labels = counts.shape
    ends, columns, rows = counts.indptr.tolist(), counts.indices.tolist(), counts.data.tolist()
    by_unit = [
        list(zip(columns[ends[unit] : ends[unit + 1]], rows[ends[unit] : ends[unit + 1]], strict=True))
        for unit in range(units)
    ]
    order = rng.permutation(units)
    # Large clusters first: while every part still has room for them.
    order = order[np.argsort(-sizes[order], kind="stable")]
    holders: list[list[int]] = [[] for _ in range(labels)]
    for unit in order.tolist():
        for label, _ in by_unit[unit]:
            holders[label].append(unit)
    totals = np.asarray(counts.sum(axis=0)).ravel().tolist()
    dealer = _Dealer(by_unit, sizes.tolist(), totals, [len(found) for found in holders], shares)
    for found in holders:
        if len(found) == 1:
            dealer.assign(found[0], 0)
    while (label := dealer.rarest()) is not None:
        for unit in holders[label]:
            dealer.deal(unit, label)
    for unit in order.tolist():
        dealer.deal(unit, None)
    for found in holders:
        # Dealing other labels first can, rarely, leave none for training.
        if found and all(dealer.part[unit] != 0 for unit in found):
            dealer.part[min(found, key=lambda unit: dealer.sizes[unit])] = 0
    return np.array(dealer.part, np.int8)


class _Dealer:
    """What every part still wants, per label and in rows."""

    def __init__(
        self,
        by_unit: list[list[tuple[int, int]]],
        sizes: list[int],
        totals: list[int],
        holders: list[int],
        shares: tuple[float, ...],
    ) -> None:
        self.part = [-1] * len(by_unit)
        self.sizes = sizes
        self._by_unit = by_unit
        self._shares = shares
        self._wanted = [[share * total for share in shares] for total in totals]
        self._behind = [0.0] * len(shares)
        self._left = holders
        self._queue = [(left, label) for label, left in enumerate(holders) if left]
        heapq.heapify(self._queue)

    def rarest(self) -> int | None:
        """The label with the fewest units not yet dealt, or None when all are."""
        while self._queue:
            left, label = heapq.heappop(self._queue)
            # Entries made before a unit of the label was dealt are stale.
            if left and left == self._left[label]:
                return label
        return None

    def deal(self, unit: int, label: int | None) -> None:
        """Give ``unit`` to the part that wants ``label`` most, or without a label to the one furthest behind."""
        if self.part[unit] >= 0:
            return
        parts = range(len(self._shares))
        if label is None:
            self.assign(unit, max(parts, key=lambda part: self._behind[part] + self._shares[part]))
            return
        wanted = self._wanted[label]
        rows = next(count for name, count in self._by_unit[unit] if name == label)
        room = [part for part in parts if wanted[part] >= rows]
        if room:
            self.assign(unit, max(room, key=lambda part: (wanted[part], self._behind[part])))
        else:
            self.assign(unit, max(parts, key=lambda part: wanted[part] + self._behind[part]))

    def assign(self, unit: int, part: int) -> None:
        """Put ``unit`` into ``part`` and book it."""
        if self.part[unit] >= 0:
            return
        self.part[unit] = part
        for label, count in self._by_unit[unit]:
            self._wanted[label][part] -= count
            self._left[label] -= 1
            heapq.heappush(self._queue, (self._left[label], label))
        size = self.sizes[unit]
        for other, share in enumerate(self._shares):
            self._behind[other] += share * size
        self._behind[part] -= size
