"""What a method is: something that is fitted and then gives scores; everything after scores is shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sortal.backbone.sources import ModelSource
from sortal.config import ResolvedConfig, RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.training.checkpoints import CheckpointStore
from sortal.training.distributed import Processes
from sortal.training.progress import ProgressView
from sortal.training.signals import StopRequest

Scores = npt.NDArray[np.float32]


class Scorer(Protocol):
    """A fitted classifier up to its scores."""

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """Logits or log-odds ``[n, labels]``, fp32, columns in label-space order; progress goes to ``view``."""

    def deciding(self) -> Scorer:
        """A scorer, cheaper where there is one, whose largest score is at the same label; for single-label decisions only."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write weights, config and tokenizer files; returns what sortal.json must know to load them."""


@dataclass(frozen=True)
class FitContext:
    """What a method gets to fit on and talk to."""

    config: ResolvedConfig
    train: Dataset
    dev: Dataset
    label_space: LabelSpace
    source: ModelSource
    processes: Processes
    store: CheckpointStore | None
    resume: bool
    stop: StopRequest
    view: ProgressView
    say: Callable[[str], None]
    on_log: Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Fitted:
    """A scorer, its dev scores (for `Decision`) and what training cost."""

    scorer: Scorer
    dev_scores: Scores
    figures: dict[str, Any] = field(default_factory=dict)
    shifts_probabilities: bool = False


@dataclass(frozen=True)
class PreviewRow:
    """One training row as the loss sees it.

    row: its position among the training rows; ids: all token ids; read: which of them are predicted (instruct) or read (head); about: what happens there, in words.
    """

    row: int
    ids: list[int]
    decoded: str
    read: list[int]
    about: str


@dataclass(frozen=True)
class Preview:
    """What ``--dry-run`` shows."""

    rows: list[PreviewRow]
    tokens: int
    truncated: int
    max_length: int
    template_hash: str


class Method(Protocol):
    """One entry of the registry."""

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Refuse settings that do not fit the task, before a model is fetched."""

    def preview(
        self, config: RunConfig, train: Dataset, label_space: LabelSpace, source: ModelSource, rows: int
    ) -> Preview:
        """What training would read, without loading weights."""

    def fit(self, context: FitContext) -> Fitted:
        """Tune on ``context.train``, select on ``context.dev``."""

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> Scorer:
        """Read back what `Scorer.save` wrote."""
