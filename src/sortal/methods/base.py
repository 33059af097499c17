"""What a method is: something that is fitted and then gives scores; everything after scores is shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sortal.backbone.sources import ModelSource
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.methods.preview import Preview
from sortal.training.progress import ProgressView
from sortal.training.signals import StopRequest

if TYPE_CHECKING:  # they import torch, which methods without a network do without
    from sortal.training.checkpoints import CheckpointStore
    from sortal.training.distributed import Processes

Scores = npt.NDArray[np.float32]


class Scorer(Protocol):
    """A fitted classifier up to its scores."""

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """Logits or log-odds ``[n, labels]``, fp32, columns in label-space order; progress goes to ``view``."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write weights, config and tokenizer files; returns what sortal.json must know to load them."""


class Encoded(Protocol):
    """Texts as token ids."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of every text, ``[n]``; what all texts share is not counted."""


@runtime_checkable
class ReadsTokens(Protocol):
    """A scorer whose texts become tokens first: ``score(texts)`` is ``score_encoded(encode(texts))``.

    max_tokens: what one forward takes; more is scored in several.
    """

    max_tokens: int

    def encode(self, texts: Iterable[str]) -> Encoded:
        """Token ids of ``texts``."""

    def score_encoded(self, texts: Any, /, view: ProgressView | None = None) -> Scores:
        """Scores ``[n, labels]`` of what `encode` gave."""


class TokenScorer(Scorer, ReadsTokens, Protocol):
    """A scorer that reads tokens."""


class HasNetwork(Protocol):
    """A scorer of a decoder."""

    model: Any
    """The torch module; not imported here, as methods without one do without torch."""


@runtime_checkable
class DecidesCheaper(Protocol):
    """A scorer for which the best label is cheaper to find than all labels' scores."""

    def deciding(self) -> Scorer:
        """A scorer whose largest score is at the same label; its other scores say little. Single-label only."""


@dataclass(frozen=True)
class _WithBase:
    """Something with a base model: ``source`` is None for a method without one."""

    source: ModelSource | None

    @property
    def base(self) -> ModelSource:
        """The base model, for a method that has one."""
        if self.source is None:
            raise TypeError("this method needs a base model")
        return self.source


@dataclass(frozen=True)
class PreviewContext(_WithBase):
    """What a method gets to show what it would read of the first ``rows`` training rows."""

    config: RunConfig
    train: Dataset
    label_space: LabelSpace
    rows: int
    view: ProgressView


@dataclass(frozen=True)
class FitContext(_WithBase):
    """What a method gets to fit on and talk to."""

    config: RunConfig
    train: Dataset
    dev: Dataset
    label_space: LabelSpace
    processes: Processes
    store: CheckpointStore | None
    resume: bool
    stop: StopRequest
    view: ProgressView
    say: Callable[[str], None]
    on_log: Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Scored:
    """Scores ``[n, L]`` of some rows, and the seconds that reading them took."""

    scores: Scores
    seconds: float


@dataclass(frozen=True)
class Fitted:
    """A scorer, its dev scores (for `Decision`) and what training cost.

    stored: of rows that a finished run has scored already, what the scorer would say of them; None where the texts must be read.
    """

    scorer: Scorer
    dev_scores: Scores
    figures: dict[str, Any] = field(default_factory=dict)
    shifts_probabilities: bool = False
    stored: Callable[[Dataset], Scored | None] | None = None


class Method(Protocol):
    """One entry of the registry.

    has_base: whether it reads a pretrained model; without, it is given no source.
    in_steps: whether it is trained in optimiser steps and with checkpoints; without, a killed run starts again and every seed gives
        the same classifier.
    """

    has_base: ClassVar[bool]
    in_steps: ClassVar[bool]

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Refuse settings that do not fit the task, before a model is fetched."""

    def preview(self, asked: PreviewContext) -> Preview:
        """What training would read, without loading weights; progress goes to ``view``."""

    def fit(self, context: FitContext) -> Fitted:
        """Tune on ``context.train``, select on ``context.dev``."""

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> Scorer:
        """Read back what `Scorer.save` wrote."""
