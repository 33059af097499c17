"""McNemar's test: are two classifiers right equally often on the same rows?

The p-value is the **mid-p** of the exact conditional test, at every number of discordant pairs. Fagerland, Lydersen &
Laake (2013, BMC Medical Research Methodology 13:91) compared the variants over 9,595 scenarios: the exact test is too
strict, its mid-p version exceeded the nominal level in none of them and was almost as powerful as the asymptotic test,
which did exceed it. One rule for all counts also has no jump at 25 discordant rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom


@dataclass(frozen=True)
class McNemar:
    """The test and its effect sizes; positive or above 1 means that the first classifier is right more often.

    Attributes:
        b: rows that only the first classifier has right.
        c: rows that only the second has right.
        statistic: (b − c)² / (b + c), McNemar's chi-square without continuity correction; 0 without discordant rows.
        p: two-sided mid-p; 1 without discordant rows.
        cohens_g: b / (b + c) − 0.5; beyond ±0.05, 0.15 and 0.25 Cohen (1988, chapter 5) speaks of a small, medium and
            large effect. None without discordant rows.
        odds_ratio: b / c, the conditional odds ratio; None where c is 0.
    """

    b: int
    c: int
    statistic: float
    p: float
    cohens_g: float | None
    odds_ratio: float | None


def mcnemar(right_a: NDArray[Any], right_b: NDArray[Any]) -> McNemar:
    """Compare two vectors bool ``[n]``: whether each classifier has the row right.

    Raises:
        ValueError: the vectors differ in length.
    """
    right_a, right_b = np.asarray(right_a, dtype=np.bool_), np.asarray(right_b, dtype=np.bool_)
    if right_a.shape != right_b.shape or right_a.ndim != 1:
        raise ValueError(f"two vectors of the same rows are needed, not {right_a.shape} and {right_b.shape}")
    b, c = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    discordant = b + c
    return McNemar(
        b,
        c,
        (b - c) ** 2 / discordant if discordant else 0.0,
        mid_p(b, c),
        b / discordant - 0.5 if discordant else None,
        b / c if c else None,
    )


def mid_p(b: int, c: int) -> float:
    """Two-sided mid-p of ``b`` against ``c`` discordant rows under Binomial(b + c, ½); 1 without discordant rows."""
    if b + c == 0:
        return 1.0
    as_likely = binom.pmf(min(b, c), b + c, 0.5)
    if b == c:
        return float(1 - as_likely / 2)
    return float(2 * binom.cdf(min(b, c), b + c, 0.5) - as_likely)
