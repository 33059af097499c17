"""Texts that are nearly the same, over all parts together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sortal.checks.minhash import Pairs, Signatures
from sortal.checks.shingles import similarity
from sortal.checks.textids import TextIds
from sortal.data.dataset import Dataset, Indices
from sortal.training.progress import ProgressView

# Of the runs of four characters that two texts have together. In Banking77, where labels are fine, of the pairs just
# above it 95 % have the same label, of those just below 93 %, and at 0.55 86 %.
NEAR = 0.7
# 64 bytes estimate a similarity of 0.7 as less than this once in 5,000 times.
_SKETCHED = 0.5
_BATCH = 1_000
_RUNS_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of different texts with a similarity of at least `NEAR`.

    Attributes:
        texts: int64 ``[k, 2]``, numbers of `TextIds`.
        similarity: float64 ``[k]``.
    """

    texts: Pairs
    similarity: npt.NDArray[np.float64]

    @classmethod
    def of(cls, parts: Mapping[str, Dataset], ids: TextIds, seed: int, view: ProgressView) -> NearPairs:
        """Find them; every candidate is compared text by text, so that none is here by an estimate alone.

        Where dozens of texts are all alike, not every pair is listed, but every text with some of those it is like.
        """
        distinct = _Distinct(parts, ids)
        view.start("looking for near-duplicates", len(distinct))
        signatures = Signatures.of(distinct.batches(view), len(distinct), seed)
        view.stop()
        pairs = signatures.candidates(_SKETCHED)
        runs = signatures.runs
        del signatures
        found = np.empty(len(pairs))
        view.start("comparing near-duplicates", len(pairs))
        for rows in _pieces(runs[pairs].sum(axis=1)):
            found[rows] = distinct.similarity(pairs[rows])
            view.advance(rows.stop - rows.start, 0)
        view.stop()
        near = found >= NEAR
        return cls(distinct.text[pairs[near]], found[near])


def _pieces(runs: Indices) -> Iterator[slice]:
    """Slices of pairs with ``runs`` each, int64 ``[k]``, that together have about `_RUNS_AT_ONCE` or are one pair."""
    piece = np.cumsum(runs) // _RUNS_AT_ONCE
    cuts = np.flatnonzero(np.diff(piece)) + 1
    for start, stop in pairwise([0, *cuts.tolist(), len(runs)]):
        if start < stop:
            yield slice(start, stop)


class _Distinct:
    """One row of every text that is not empty, in the order of the parts."""

    def __init__(self, parts: Mapping[str, Dataset], ids: TextIds) -> None:
        self._parts = parts
        seen = np.zeros(ids.count, bool)
        if ids.empty >= 0:
            seen[ids.empty] = True
        chosen: dict[str, Indices] = {}
        for part in parts:
            first = ids.first(part)
            new = np.flatnonzero((first >= 0) & ~seen)
            seen[new] = True
            chosen[part] = np.sort(first[new])
        self._rows = chosen
        self._ends = np.cumsum([len(rows) for rows in chosen.values()])
        self.text: Indices = np.concatenate([ids.by_part[part][rows] for part, rows in chosen.items()])

    def __len__(self) -> int:
        return len(self.text)

    def batches(self, view: ProgressView) -> Iterator[list[str]]:
        """The texts in order."""
        for part, rows in self._rows.items():
            for start in range(0, len(rows), _BATCH):
                batch = self._parts[part].text_at(rows[start : start + _BATCH])
                yield batch
                view.advance(len(batch), 0)

    def similarity(self, pairs: Pairs) -> npt.NDArray[np.float64]:
        """Similarity of each pair of positions, float64 ``[k]``."""
        needed, places = np.unique(pairs, return_inverse=True)
        left, right = places.reshape(-1, 2).T
        return similarity(self.at(needed), left, right)

    def at(self, positions: Sequence[int] | Indices) -> list[str]:
        """The texts at ``positions``."""
        wanted = np.asarray(positions, np.int64)
        which = np.searchsorted(self._ends, wanted, side="right")
        texts = [""] * len(wanted)
        for number, (part, rows) in enumerate(self._rows.items()):
            mine = np.flatnonzero(which == number)
            before = self._ends[number - 1] if number else 0
            for place, text in zip(mine, self._parts[part].text_at(rows[wanted[mine] - before]), strict=True):
                texts[place] = text
        return texts
