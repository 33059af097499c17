"""Which texts may be alike, without comparing every two: MinHash signatures and locality-sensitive hashing.

Broder, "On the resemblance and containment of documents" (1997); the bands after Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3. Two sets agree in one minimum with the probability of their Jaccard similarity s, so they
meet in at least one of B bands of R minima with probability 1 − (1 − sᴿ)ᴮ: 99.6 % at s = 0.7, 99.999 % at 0.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sortal.checks.shingles import READ, shingles

BANDS, ROWS = 30, 5
SKETCH = 64  # minima of which a byte is kept: a first estimate of the similarity that costs no text
_RUNS_AT_ONCE = 1 << 17  # stays within a processor's cache
_BUCKET = 32  # up to here all pairs of a bucket are compared, in larger ones neighbours only
_NEIGHBOURS = 8
_PARTNERS = 32  # a text with so many candidates is only paired with texts that have fewer
_PAIRS_AT_ONCE = 1 << 18

Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Signatures:
    """What is kept of n texts, 192 bytes each.

    Attributes:
        bands: uint32 ``[n, BANDS]``; texts with an equal number in one column are candidates.
        sketch: uint8 ``[n, SKETCH]``, the lowest byte of the first minima.
        runs: int64 ``[n]``, how many runs each text has.
    """

    bands: npt.NDArray[np.uint32]
    sketch: npt.NDArray[np.uint8]
    runs: npt.NDArray[np.int64]

    @classmethod
    def of(cls, batches: Iterable[Sequence[str]], n: int, seed: int) -> Signatures:
        """Signatures of the ``n`` texts in ``batches``."""
        rng = np.random.default_rng(seed)
        masks = rng.integers(0, 2**32, BANDS * ROWS, dtype=np.uint32)
        factors = rng.integers(0, 2**31, BANDS * ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
        found = cls(np.empty((n, BANDS), np.uint32), np.empty((n, SKETCH), np.uint8), np.empty(n, np.int64))
        done = 0
        for batch in batches:
            for texts in _limited(batch):
                runs, counts = shingles(texts)
                minima = _minima(runs, counts, masks, factors)
                rows = slice(done, done + len(texts))
                found.bands[rows] = _folded(minima)
                found.sketch[rows] = minima[:, :SKETCH].astype(np.uint8)
                found.runs[rows] = counts
                done += len(texts)
        return found

    def likeness(self, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Share of equal bytes in the sketches of each pair, float64 ``[k]``: about the similarity."""
        share: npt.NDArray[np.float64] = (self.sketch[left] == self.sketch[right]).mean(axis=1)
        return share

    def candidates(self, least: float) -> Pairs:
        """Pairs that share a band and whose sketches agree in ``least`` of their bytes, int64 ``[k, 2]``, left < right.

        Memory grows with n, and time hardly faster: where more than 32 texts share a band, each meets its neighbours
        only, in an order that puts like texts side by side.
        """
        n = len(self.bands)
        known = np.zeros(0, np.int64)
        partners = np.zeros(n, np.int64)
        for band in range(BANDS):
            fresh = [known]
            for left, right in self._sharing(band):
                open_ = (partners[left] < _PARTNERS) | (partners[right] < _PARTNERS)
                left, right = left[open_], right[open_]
                alike = self.likeness(left, right) >= least
                fresh.append(left[alike] * n + right[alike])
            known = np.unique(np.concatenate(fresh))
            partners = np.bincount(np.concatenate([known // n, known % n]) if n else known, minlength=n)
        return np.stack([known // max(n, 1), known % max(n, 1)], axis=1)

    def _sharing(self, band: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Pairs that share ``band``, lower position first, a bounded number at a time."""
        keys = self.bands[:, band]
        order = np.lexsort((self.bands[:, (band + 1) % BANDS], keys))
        sorted_keys = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))
        sizes = np.diff(np.concatenate([starts, [len(keys)]]))
        size = np.repeat(sizes, sizes)  # of the bucket that stands at each place of the order
        end = np.repeat(starts + sizes, sizes)
        reach = np.where(size <= _BUCKET, _BUCKET, _NEIGHBOURS)
        places = np.arange(len(keys))
        for distance in range(1, min(_BUCKET, int(sizes.max(initial=0)))):
            places = places[(places + distance < end[places]) & (distance <= reach[places])]
            for start in range(0, len(places), _PAIRS_AT_ONCE):
                first = places[start : start + _PAIRS_AT_ONCE]
                one, other = order[first], order[first + distance]
                yield np.minimum(one, other), np.maximum(one, other)


def _limited(batch: Sequence[str]) -> Iterator[Sequence[str]]:
    """Pieces of ``batch`` with about `_RUNS_AT_ONCE` characters."""
    start, size = 0, 0
    for position, text in enumerate(batch):
        size += min(len(text), READ)
        if size >= _RUNS_AT_ONCE:
            yield batch[start : position + 1]
            start, size = position + 1, 0
    if start < len(batch):
        yield batch[start:]


def _minima(
    runs: npt.NDArray[np.uint32],
    counts: npt.NDArray[np.int64],
    masks: npt.NDArray[np.uint32],
    factors: npt.NDArray[np.uint32],
) -> npt.NDArray[np.uint32]:
    """The smallest hash of each text's runs under every hash function, uint32 ``[n, functions]``."""
    starts = np.cumsum(counts) - counts
    minima = np.empty((len(masks), len(counts)), np.uint32)
    hashed = np.empty_like(runs)
    for number, (mask, factor) in enumerate(zip(masks, factors, strict=True)):
        np.bitwise_xor(runs, mask, out=hashed)
        np.multiply(hashed, factor, out=hashed)
        np.minimum.reduceat(hashed, starts, out=minima[number])
    return minima.T


def _folded(minima: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Each band's minima as one number, uint32 ``[n, BANDS]``."""
    grouped = minima.reshape(len(minima), BANDS, ROWS).astype(np.uint64)
    folded = np.zeros(grouped.shape[:2], np.uint64)
    for row in range(ROWS):
        folded = (folded ^ grouped[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        folded ^= folded >> np.uint64(31)
    return (folded >> np.uint64(16)).astype(np.uint32)
