"""A text as the set of its runs of four characters, each run as a 32-bit number.

Runs of characters, not of words: one typo leaves most runs of a short text as they were, and no script needs word borders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

LENGTH = 4
# What two long texts share by being in one language grows with their length; so much of them tells them apart and
# bounds the work.
READ = 20_000
_IGNORED = re.compile(r"[\s!-/:-@\[-`{-~‘’“”‚„–—…¿¡«»]+")
_STEP, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def compared(text: str) -> str:
    """The text as near-duplicates are compared: case, white space and ASCII punctuation aside, up to `READ` characters."""
    folded = text[:READ].casefold()
    return _IGNORED.sub(" ", folded).strip() or folded.strip()


def shingles(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The runs of all ``texts`` one text after the other, uint32 ``[s]``, and how many each text has, int64 ``[n]``.

    Every text has at least one, because spaces are put behind it; a run that occurs twice is there twice.
    """
    if not texts:
        return np.zeros(0, np.uint32), np.zeros(0, np.int64)
    padded = [compared(text) or " " for text in texts]
    behind = " " * (LENGTH - 1)
    codes = np.frombuffer((behind.join(padded) + behind).encode("utf-32-le"), np.uint32).astype(np.uint64)
    counts = np.fromiter(map(len, padded), np.int64, len(padded))
    n = len(codes) - (LENGTH - 1)
    hashes = np.zeros(n, np.uint64)
    for offset in range(LENGTH):
        hashes = hashes * _STEP + codes[offset : offset + n]
    hashes ^= hashes >> np.uint64(29)
    hashes *= _MIX
    # A run that starts in the spaces between two texts belongs to neither.
    starts = np.cumsum(counts + LENGTH - 1) - (counts + LENGTH - 1)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return (hashes[np.repeat(starts, counts) + within] >> np.uint64(32)).astype(np.uint32), counts


def similarity(
    texts: Sequence[str], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Jaccard similarity of the sets of ``texts[left[i]]`` and ``texts[right[i]]``, float64 ``[k]``: shared runs ÷ all runs."""
    runs, counts = shingles(texts)
    _, columns = np.unique(runs, return_inverse=True)
    ends = np.concatenate([[0], np.cumsum(counts)])
    sets = csr_matrix((np.ones(len(columns), np.int32), columns, ends))
    sets.sum_duplicates()
    sets.data[:] = 1
    sizes = np.diff(sets.indptr)
    shared = np.asarray(sets[left].multiply(sets[right]).sum(axis=1)).ravel()
    found: npt.NDArray[np.float64] = shared / (sizes[left] + sizes[right] - shared)
    return found
