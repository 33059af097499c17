"""Scores that a finished run has already written down, so that what is made of it need not read the texts again."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sortal import model_folder
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.evaluation.predictions import DENSE_LABELS, read_predictions
from sortal.methods.base import Scored
from sortal.training.runfolder import RunFolder


def stored_scores(
    folder: RunFolder, part: Literal["dev", "test"], rows: Dataset, space: LabelSpace
) -> Scored | None:
    """The scores behind a finished run's predictions of ``rows``, single-label up to a constant per row; its seconds are 0 for dev rows.

    None where the files do not hold all of them, and the texts have to be read: no predictions, other rows, so many labels that only
    the best are kept, several labels in a tree (whose probabilities were made monotone), or one of probability 0 or 1, whose log-odds
    are lost.
    """
    path = folder.dev_predictions if part == "dev" else folder.predictions
    record = folder.read_run_json()
    if len(space) > DENSE_LABELS or (space.task == "multi" and space.tree is not None) or not path.exists():
        return None
    if record["identity"]["data"].get(part) != rows.fingerprint:
        return None
    kept = read_predictions(path)
    if kept.names != space.names or kept.ids != list(rows.ids):
        return None
    p = kept.probabilities
    with np.errstate(divide="ignore"):
        scores = np.log(p) if space.task == "single" else np.log(p) - np.log1p(-p)
    if not np.isfinite(scores).all():
        return None
    # What the weights of a sum are multiplied with are the scores before the run's own temperature.
    temperature = model_folder.decision(model_folder.read_meta(folder.model)).temperature
    measured = record["inference"]["seconds"] if part == "test" else 0.0
    return Scored((scores * temperature).astype(np.float32), measured)
