"""What a check is given and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from sortal.checks.labelcodes import LabelCodes
from sortal.checks.near import NearPairs
from sortal.checks.remedies import Remedy
from sortal.checks.textids import TextIds
from sortal.checks.units import Unit, Words
from sortal.data.dataset import Dataset, Indices
from sortal.training.progress import NoProgress, ProgressView

if TYPE_CHECKING:
    from sortal.checks.label_noise import Suspects

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_BATCH = 1_000


class NotChecked(Exception):  # noqa: N818 - nothing failed: there was nothing to look at
    """A check does not apply to this data; the message says why, and what would make it apply."""


@dataclass(frozen=True, eq=False)
class Finding:
    """One thing that is wrong with one part of the data.

    Attributes:
        check: the check's name in the registry.
        severity: ``error`` makes training or its figures wrong; ``warning`` is likely to cost quality; ``note`` is worth knowing.
        part: ``train``, ``dev`` or ``test``.
        what: what was found, in one sentence.
        advice: what to do about it, in one sentence.
        rows: int64 ``[k]``, 0-based positions in the part, those that show it best first.
        note: what is to be said about ``rows[i]``, given ``i``.
        count: how many ``unit`` are concerned; by default the rows.
        remedies: what `--fix` does about it to the training file; empty where a person has to decide.
    """

    check: str
    severity: Severity
    part: str
    what: str
    advice: str
    rows: Indices
    note: Callable[[int], str] = lambda i: ""
    count: int = -1
    unit: str = "row"
    remedies: tuple[Remedy, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            object.__setattr__(self, "count", len(self.rows))


@dataclass(frozen=True, eq=False)
class CheckContext:
    """The data and what the user said about it; what several checks need is computed once.

    Attributes:
        parts: ``train`` and, where they are given, ``dev`` and ``test``.
        dates: per part the cells of the date column as text, None where empty; None when no column was named.
        max_length: how many of ``unit`` a text would be cut to.
        unit: what lengths are counted in.
        seed: of everything random.
    """

    parts: Mapping[str, Dataset]
    dates: Mapping[str, list[str | None]] | None = None
    max_length: int | None = None
    unit: Unit = field(default_factory=Words)
    seed: int = 0
    view: ProgressView = field(default_factory=NoProgress)

    @property
    def train(self) -> Dataset:
        """The training rows."""
        return self.parts["train"]

    @property
    def others(self) -> list[str]:
        """The parts that a model is measured on."""
        return [part for part in self.parts if part != "train"]

    @cached_property
    def text_ids(self) -> TextIds:
        """Which rows of all parts have the same text."""
        return TextIds.of(self.parts, lambda part: self.texts(part, "comparing texts"))

    @cached_property
    def labels(self) -> LabelCodes:
        """The labels of all parts as numbers."""
        return LabelCodes.of(self.parts)

    @cached_property
    def near(self) -> NearPairs:
        """Texts of all parts that are nearly the same."""
        return NearPairs.of(self.parts, self.text_ids, self.seed, self.view)

    @cached_property
    def suspects(self) -> Suspects:
        """What other rows say about the labels of train; `NotChecked` where they cannot say."""
        from sortal.checks.label_noise import suspects

        return suspects(self)

    def texts(self, part: str, doing: str, rows: Indices | None = None) -> Iterator[str]:
        """The texts of a part, or of ``rows`` of it, in order, a batch in memory, with progress."""
        for batch in self.batches(part, doing, rows=rows):
            yield from batch

    def batches(
        self, part: str, doing: str, size: int = _BATCH, rows: Indices | None = None
    ) -> Iterator[list[str]]:
        """The texts of a part, or of ``rows`` of it, in order, at most ``size`` at a time, with progress."""
        dataset = self.parts[part]
        rows = np.arange(len(dataset)) if rows is None else rows
        self.view.start(doing, len(rows))
        try:
            for start in range(0, len(rows), size):
                batch = dataset.text_at(rows[start : start + size])
                yield batch
                self.view.advance(len(batch), 0)
        finally:
            self.view.stop()

    def name(self, part: str) -> str:
        """``train.csv``, or ``the dev rows of train.csv`` where other parts are of the same file."""
        sources = [dataset.source for dataset in self.parts.values()]
        source = self.parts[part].source
        return source if sources.count(source) == 1 else f"the {part} rows of {source}"

    def where(self, part: str, position: int) -> str:
        """``row 17 of train.csv``."""
        dataset = self.parts[part]
        return f"row {int(dataset.rows[position]):,} of {dataset.source}"
