"""A tuned model taken from a finished run instead of trained again: what a blend adds costs no training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sortal.errors import RunFolderError
from sortal.training.identity import RunIdentity, differences
from sortal.training.runfolder import RunFolder

if TYPE_CHECKING:
    from sortal.methods.base import FitContext, Fitted


def check_tuned(folder: RunFolder, now: RunIdentity) -> None:
    """Refuse a run that is not this one without its blend.

    Raises:
        RunFolderError: not finished, or of other data, model, seed or settings.
    """
    if folder.state() != "finished":
        raise RunFolderError(f"{folder.path} holds no finished run", "name one, or leave --tuned out")
    saved = RunIdentity.from_json(folder.read_run_json()["identity"])
    # As JSON has them: lists for tuples.
    settings = json.loads(json.dumps({**now.settings, "blend": "none"}))
    if changed := differences(saved, replace(now, settings=settings)):
        raise RunFolderError(
            f"the model of {folder.path} is not this run's: {'; '.join(changed)}",
            "name a run that differs in nothing but blend, or leave --tuned out",
        )


def take_tuned(path: Path, context: FitContext) -> Fitted:
    """The model of a run that `check_tuned` let pass, with its scores of the dev rows and what its training cost."""
    from sortal.classifier import load
    from sortal.methods.base import Fitted
    from sortal.methods.stored_scores import stored_scores

    folder = RunFolder(path)
    context.say(f"the tuned model is that of {folder.path}")
    scorer = load(folder.model).scorer
    figures = folder.read_run_json()["training"]
    space, shifts = context.label_space, bool(figures.get("shifts_probabilities"))
    known = stored_scores(folder, "dev", context.dev, space)
    scores = scorer.score(context.dev.iter_texts(), context.view) if known is None else known.scores
    return Fitted(scorer, scores, figures, shifts, lambda rows: stored_scores(folder, "test", rows, space))
