"""`PairComparison`: the result of comparing two methods, and the words that say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sortal.evaluation.mcnemar import McNemar
from sortal.evaluation.power import ALPHA
from sortal.evaluation.words import too_few

MIN_ROWS = 30


@dataclass(frozen=True)
class PairComparison:
    """Two methods on the same test rows; differences are ``a − b``, as shares (0.01 is one point).

    Attributes:
        a: name of the first method.
        b: name of the second.
        metric: what is compared; higher is better.
        n: test rows.
        groups: that these rows fall into, each drawn and exchanged as a whole; None where every row stands alone.
        runs_a: training runs of the first method.
        runs_b: of the second.
        value_a: mean metric over the runs of the first.
        value_b: of the second.
        difference: value_a − value_b.
        interval: 95 % interval of the difference; None where these rows give none.
        test: how p was computed.
        p: two-sided p-value of "no difference"; None when there are too few rows.
        mcnemar: discordant rows and effect sizes; share-of-right-rows metrics of one run each only.
        smallest_difference: what these rows show with 80 % power; None where they give no interval.
        power: the same as a sentence.
        notes: what the figures cannot tell, one sentence each.
        p_holm: p after Holm's correction over all pairs; None until they are known.
    """

    a: str
    b: str
    metric: str
    n: int
    runs_a: int
    runs_b: int
    value_a: float
    value_b: float
    difference: float
    interval: list[float] | None = None
    test: str = "none: too few rows"
    p: float | None = None
    mcnemar: McNemar | None = None
    smallest_difference: float | None = None
    power: str = ""
    notes: tuple[str, ...] = ()
    p_holm: float | None = None
    groups: int | None = None

    @property
    def winner(self) -> str | None:
        """The better method's name when the corrected p-value is below 0.05, else None."""
        if self.p_holm is None or self.p_holm >= ALPHA or self.difference == 0:
            return None
        return self.a if self.difference > 0 else self.b

    @property
    def verdict(self) -> str:
        """The result as a sentence."""
        if (self.groups or self.n) < MIN_ROWS:
            few = too_few(self.n, self.groups)
            return f"{few} to compare {self.a} and {self.b}: at least {MIN_ROWS} are needed"
        if self.p_holm is None:
            return f"{self.a} and {self.b} are not judged before all pairs are known"
        sign = -1 if self.winner == self.b else 1
        span = ""
        if self.interval is not None:
            low, high = sorted(sign * 100 * bound for bound in self.interval)
            span = f" (95 % interval {low:+.1f} to {high:+.1f})"
        p = f"Holm {_p(self.p_holm)}"
        if self.winner is None and self.p is not None and self.p < ALPHA:
            # Not chance in itself: fewer methods, more seeds or more rows can tell.
            p += f" ({_p(self.p)} before the correction for all pairs)"
        figures = f"{sign * 100 * self.difference:+.1f} points of {self.metric}{span}, {p}, {self.n:,} rows"
        figures += "" if self.groups is None else f" of {self.groups:,} groups"
        if self.winner is None:
            return f"no winner between {self.a} and {self.b}: {figures}"
        return f"{self.winner} is better than {self.b if self.winner == self.a else self.a}: {figures}"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, with winner and verdict."""
        return {**asdict(self), "notes": list(self.notes), "winner": self.winner, "verdict": self.verdict}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PairComparison:
        """The inverse of `to_json`; KeyError or TypeError when keys are missing or unknown."""
        kept = {key: value for key, value in values.items() if key not in ("winner", "verdict")}
        test = values["mcnemar"]
        return cls(
            **{**kept, "notes": tuple(values["notes"]), "mcnemar": None if test is None else McNemar(**test)}
        )


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
