"""Which rows belong together: exact duplicates of a text, and rows of one group."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sortal.data.dataset import Dataset
from sortal.data.problems import counted, shortened


def normalised(text: str) -> str:
    """The text as duplicates are compared: case folded, every run of white space one space."""
    return " ".join(text.casefold().split())


def text_keys(texts: Iterable[str]) -> npt.NDArray[np.bytes_]:
    """A hexadecimal digest of each normalised text, dtype S32 [n]: equal for duplicates, small for any text."""
    digests = [
        hashlib.blake2b(normalised(text).encode("utf-8"), digest_size=16).hexdigest() for text in texts
    ]
    return np.array(digests, dtype="S32")


def clusters(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Cluster number of every row, int64 [n]: rows with the same normalised text or the same group share one.

    The relation is transitive: a duplicate that occurs in two groups makes one cluster of both.
    """
    n = len(dataset)
    if n == 0:
        return np.zeros(0, np.int64)
    _, by_text = np.unique(text_keys(dataset.iter_texts()), return_inverse=True)
    if dataset.groups is None:
        return by_text.astype(np.int64)
    numbers: dict[tuple[bool, str | int], int] = {}
    # A row without a group value belongs to no group but its own.
    keys = [(True, group) if group is not None else (False, row) for row, group in enumerate(dataset.groups)]
    by_group = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    texts = int(by_text.max()) + 1
    size = texts + int(by_group.max()) + 1
    edges = coo_matrix((np.ones(n, np.int8), (by_text, by_group + texts)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    return np.asarray(component[by_text], np.int64)


@dataclass(frozen=True)
class Overlap:
    """Rows that occur in two data sets.

    Attributes:
        pairs: int64 [k, 2], 0-based positions (in the first, in the second), every matching pair.
        warning: one sentence with examples, or ``""`` without overlap.
    """

    pairs: npt.NDArray[np.int64]
    warning: str

    @property
    def in_second(self) -> npt.NDArray[np.int64]:
        """0-based positions in the second data set that also occur in the first, sorted and unique."""
        return np.unique(self.pairs[:, 1])


def overlap(train: Dataset, other: Dataset) -> Overlap:
    """Texts of ``other`` that also occur in ``train``, compared as `normalised`; empty texts are left out."""
    first: dict[bytes, list[int]] = {}
    empty = text_keys([""])[0]
    for position, key in enumerate(text_keys(train.iter_texts())):
        if key != empty:
            first.setdefault(key, []).append(position)
    found = [
        (position, second)
        for second, key in enumerate(text_keys(other.iter_texts()))
        for position in first.get(key, ())
    ]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return Overlap(pairs, _warning(train, other, pairs))


def _warning(train: Dataset, other: Dataset, pairs: npt.NDArray[np.int64]) -> str:
    if not len(pairs):
        return ""
    rows = len(np.unique(pairs[:, 1]))
    examples = "; ".join(_example(train, other, pair) for pair in pairs[:3].tolist())
    return (
        f"warning: {counted(rows, 'row')} of {other.source} ({rows / len(other):.1%}) also {'occurs' if rows == 1 else 'occur'} "
        f"in {train.source}; scores on them are too good ({examples})."
    )


def _example(train: Dataset, other: Dataset, pair: Sequence[int]) -> str:
    text = shortened(other.text_at([pair[1]])[0], 40)
    return f"row {int(other.rows[pair[1]]):,} is row {int(train.rows[pair[0]]):,} there: {text}"
