"""Method ``majority``: every text gets the frequencies of the training labels; the floor that other methods stand on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.methods.base import FitContext, Fitted, PreviewContext, Scores
from sortal.methods.frequencies import Ints, label_counts, log_odds, log_priors
from sortal.methods.plain_folder import load_json, save_json
from sortal.methods.preview import FeaturePreview, FeatureRow
from sortal.training.progress import ProgressView

FILE = "majority.json"


@dataclass(frozen=True, eq=False)
class MajorityScorer:
    """The same scores for every text: log priors (single-label) or log-odds (multi-label) of the label counts.

    Attributes:
        counts: int64 ``[L]``, training rows of each label.
        rows: training rows.
    """

    label_space: LabelSpace
    counts: Ints
    rows: int

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """``[n, L]``, n equal rows."""
        scores = log_priors if self.label_space.task == "single" else log_odds
        row = scores(self.counts, self.rows).astype(np.float32)
        return np.tile(row, (sum(1 for _ in texts), 1))

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``majority.json``."""
        values = {"rows": self.rows, "counts": self.counts.tolist()}
        return save_json(folder / FILE, values, self.label_space)


class MajorityMethod:
    """Fitting and loading of ``majority``."""

    has_base: ClassVar[bool] = False
    in_steps: ClassVar[bool] = False

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Nothing can fail."""

    def preview(self, asked: PreviewContext) -> FeaturePreview:
        """No text is read."""
        train, rows = asked.train, asked.rows
        first = [FeatureRow(row, {}) for row in range(min(rows, len(train)))]
        return FeaturePreview(first, "of which only the labels are read", {"features": 0})

    def fit(self, context: FitContext) -> Fitted:
        """Count the labels of ``context.train``."""
        from sortal.training.budget import peak_memory  # imports torch, which an answer does without

        began = time.monotonic()
        space = context.label_space
        counts = label_counts(space.encode_sparse(context.train), len(space))
        scorer = MajorityScorer(space, counts, len(context.train))
        top = int(counts.argmax())
        context.say(f"most frequent label: {space.names[top]}, {counts[top]:,} of {scorer.rows:,} rows")
        figures = {
            "features": 0,
            "train_seconds": round(time.monotonic() - began, 3),
            "peak_memory_bytes": peak_memory(context.processes.device),
        }
        return Fitted(scorer, scorer.score(context.dev.iter_texts()), figures)

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> MajorityScorer:
        """The scorer saved in ``folder``.

        Raises:
            ModelError: ``majority.json`` is missing, damaged or of other labels.
        """
        values = load_json(folder / FILE, meta, label_space)
        return MajorityScorer(label_space, np.array(values["counts"], np.int64), values["rows"])
