"""Which rows have the same text, over all parts together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sortal.data.dataset import Dataset, Indices
from sortal.data.duplicates import text_keys


@dataclass(frozen=True, eq=False)
class TextIds:
    """A number for every distinct text, compared as `sortal.data.duplicates.normalised`.

    Attributes:
        by_part: part → int64 ``[rows]``, the number of each row's text.
        count: how many distinct texts there are.
        empty: the number of the empty text, or -1.
    """

    by_part: Mapping[str, Indices]
    count: int
    empty: int

    @classmethod
    def of(cls, parts: Mapping[str, Dataset], texts: Callable[[str], Iterable[str]]) -> TextIds:
        """Number the ``texts`` of every part."""
        keys = {part: text_keys(texts(part)) for part in parts}
        distinct, ids = np.unique(np.concatenate([*keys.values()]), return_inverse=True)
        ends = np.cumsum([len(found) for found in keys.values()])[:-1]
        by_part = dict(zip(keys, np.split(ids.astype(np.int64), ends), strict=True))
        blank = text_keys([""])[0]
        at = int(np.searchsorted(distinct, blank))
        empty = at if at < len(distinct) and distinct[at] == blank else -1
        return cls(by_part, len(distinct), empty)

    def first(self, part: str) -> Indices:
        """Position of the first row of ``part`` with each text, int64 ``[count]``; -1 where the part has none."""
        ids = self.by_part[part]
        found = np.full(self.count, -1, np.int64)
        found[ids[::-1]] = np.arange(len(ids))[::-1]
        return found
