"""The few-shot peer: SetFit as its documentation shows it, sentence pairs first, then a logistic regression."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from setfit import SetFitModel, Trainer, TrainingArguments


@dataclass(frozen=True)
class Fitted:
    """Probabilities of test texts ``[n, L]``, in the order of ``labels``, and what they cost in seconds."""

    probabilities: NDArray[np.float64]
    train_seconds: float
    predict_seconds: float


def fit_predict(
    model: str,
    texts: Sequence[str],
    gold: Sequence[int],
    test: Sequence[str],
    *,
    labels: int,
    seed: int,
    folder: str,
) -> Fitted:
    """Fit on ``texts`` and their label numbers ``gold``; one epoch over 20 pairs of each kind per text, as in the paper (arXiv 2209.11055).

    Args:
        model: folder of a sentence-transformers model.
        folder: where the trainer may write.
    """
    began = time.monotonic()
    classifier = SetFitModel.from_pretrained(model)
    arguments = TrainingArguments(
        batch_size=16, num_epochs=1, num_iterations=20, seed=seed, output_dir=folder, report_to="none",
        save_strategy="no", show_progress_bar=False,
    )  # fmt: skip
    trainer = Trainer(
        model=classifier,
        args=arguments,
        train_dataset=Dataset.from_dict({"text": list(texts), "label": list(gold)}),
    )
    trainer.train()
    trained = time.monotonic()
    found: Any = classifier.predict_proba(list(test), as_numpy=True)
    probabilities = np.zeros((len(test), labels))
    probabilities[:, classifier.model_head.classes_] = found
    return Fitted(probabilities, trained - began, time.monotonic() - trained)
