"""Rows that chance draws together: those of one author, patient or document are no independent rows.

An interval that draws such rows one by one is too narrow, and a test that exchanges them one by one finds differences that are none
(Field & Welsh 2007, "Bootstrapping clustered data", Journal of the Royal Statistical Society B 69:369–390).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sortal.evaluation.scores import Ints


@dataclass(frozen=True)
class Clusters:
    """of_row: the cluster of every row, int64 ``[n]`` of 0 to ``count - 1``."""

    of_row: Ints
    count: int

    @classmethod
    def of(cls, groups: Sequence[str | None] | None) -> Clusters | None:
        """Of the groups that rows name; a row with None is a cluster of its own. None where no two rows share one."""
        # Numbered in the order of the rows: what groups are called changes no interval.
        numbers: dict[str | int, int] = {}
        keys = (row if group is None else group for row, group in enumerate(groups or ()))
        of_row = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
        return cls(of_row, len(numbers)) if len(numbers) < len(of_row) else None


def independent(n: int, clusters: Clusters | None) -> int:
    """What is drawn: ``n`` rows, or their clusters."""
    return n if clusters is None else clusters.count
