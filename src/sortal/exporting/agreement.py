"""How far the answers of an export are from those of the model folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sortal.evaluation.decision import Decision
from sortal.evaluation.scores import Floats


@dataclass(frozen=True)
class Agreement:
    """Two sets of probabilities of the same texts.

    agreeing: rows with the same decided label (single-label) or the same set of labels.
    largest: max |Δp| over rows and labels. mean: of each row's largest. worst: position of the row with ``largest``.
    """

    rows: int
    agreeing: int
    largest: float
    mean: float
    worst: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def compare(ours: Floats, theirs: Floats, decision: Decision) -> Agreement:
    """How far ``theirs`` are from ``ours``, both probabilities ``[n, L]``, when ``decision`` is taken on each; NaN is infinitely far."""
    apart = np.where(np.isfinite(theirs), np.abs(ours - theirs), np.inf).max(axis=1)
    one, other = decision.decide(ours), decision.decide(np.nan_to_num(theirs))
    same = one == other if one.ndim == 1 else (one == other).all(axis=1)
    return Agreement(len(ours), int(same.sum()), float(apart.max()), float(apart.mean()), int(apart.argmax()))
