"""What the compared methods get wrong: rows that all of them miss, and where each is weak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sortal.data.sections import plain_text
from sortal.evaluation.errors import Slice, missed_by_all, slices
from sortal.evaluation.predictions import Predictions
from sortal.methods.frequencies import label_counts
from sortal.parts import Parts

KEPT = 50


@dataclass(frozen=True)
class MissedRow:
    """A test row that no run of any method has right; ``answers``: what the first run of each says."""

    id: str
    text: str
    gold: list[str]
    answers: dict[str, list[str]]


@dataclass(frozen=True)
class Mistakes:
    """Errors of all methods together.

    missed: how many rows every run of every method misses (``majority`` is not asked); rows: the first `KEPT` of them, those
    first of whose wrong answer the methods are surest. slices: the compared metric on kinds of rows.
    """

    missed: int
    rows: list[MissedRow]
    slices: list[Slice]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Mistakes:
        """The inverse of `to_json`; KeyError or TypeError when keys are missing or unknown."""
        return cls(
            values["missed"],
            [MissedRow(**row) for row in values["rows"]],
            [Slice(**part) for part in values["slices"]],
        )


def mistakes(methods: Mapping[str, Sequence[Predictions]], parts: Parts, metric: str) -> Mistakes:
    """Of the finished runs of ``methods`` on the test rows of ``parts``."""
    asked = {name: runs for name, runs in methods.items() if name != "majority"}
    positions = missed_by_all([run for runs in asked.values() for run in runs])
    kept = positions[:KEPT]
    gold = parts.label_space.encode_sparse(parts.train)
    counts = label_counts(gold, len(parts.label_space))
    texts = [plain_text(text) for text in parts.test.iter_texts()]
    rows = [
        MissedRow(
            parts.test.ids[i],
            texts[i],
            list((parts.test.labels or [])[i]),
            {name: _names(runs[0], i) for name, runs in asked.items()},
        )
        for i in kept.tolist()
    ]
    return Mistakes(len(positions), rows, slices(methods, metric, texts, counts) if methods else [])


def _names(run: Predictions, row: int) -> list[str]:
    answer = run.predicted[row]
    if run.predicted.ndim == 1:
        return [run.names[answer]] if answer >= 0 else []
    return [run.names[k] for k in np.flatnonzero(answer)]
