"""Models taken from finished runs instead of made again: what a blend adds up is often there already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortal.config import RunConfig, applies
from sortal.errors import RunFolderError
from sortal.training.identity import RunIdentity, differences
from sortal.training.runfolder import RunFolder

if TYPE_CHECKING:
    from sortal.methods.base import FitContext, Fitted

# Of what is made of the scores, and not of the linear model.
_NOT_OF_LINEAR = frozenset({"method", "blend", "n_resamples", "abstain_below", "temperature_scaling"})


def linear_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a blend's `result_settings` that its linear model on words depends on, as a run of ``tfidf`` has them, too.

    The seed is not among them: it only orders the rows that the solver visits.
    """
    return {
        name: value
        for name, value in settings.items()
        if name not in _NOT_OF_LINEAR and (applies(name, "tfidf") or name not in RunConfig.model_fields)
    }


def check_tuned(folder: RunFolder, now: RunIdentity) -> None:
    """Refuse a run that is not this one without its blend.

    Raises:
        RunFolderError: not finished, or of other data, model, seed or settings.
    """
    saved = _saved(folder, "--tuned")
    # As JSON has them: lists for tuples.
    settings = json.loads(json.dumps({**now.settings, "blend": "none"}))
    if changed := differences(saved, replace(now, settings=settings)):
        raise RunFolderError(
            f"the model of {folder.path} is not this run's: {'; '.join(changed)}",
            "name a run that differs in nothing but blend, or leave --tuned out",
        )


def check_tfidf(folder: RunFolder, now: RunIdentity) -> None:
    """Refuse a run that is not the linear model of this one's blend.

    Raises:
        RunFolderError: not finished, of another method, or of other data or settings.
    """
    saved = _saved(folder, "--tfidf")
    if (method := saved.settings["method"]) != "tfidf":
        raise RunFolderError(
            f"{folder.path} holds a run of {method}", "name a run of tfidf, or leave --tfidf out"
        )
    there, here = (
        RunIdentity(
            run.data, run.labels, None, None, 0, json.loads(json.dumps(linear_settings(run.settings)))
        )
        for run in (saved, now)
    )
    if changed := differences(there, here):
        raise RunFolderError(
            f"the model of {folder.path} is not this run's linear model: {'; '.join(changed)}",
            "name a run of tfidf on the same rows and labels, or leave --tfidf out",
        )


def _saved(folder: RunFolder, option: str) -> RunIdentity:
    if folder.state() != "finished":
        raise RunFolderError(f"{folder.path} holds no finished run", f"name one, or leave {option} out")
    return RunIdentity.from_json(folder.read_run_json()["identity"])


def take(path: Path, context: FitContext) -> Fitted:
    """The model of a run that was let pass, with its scores of the dev rows and what its training cost."""
    from sortal.classifier import load
    from sortal.methods.base import Fitted
    from sortal.methods.stored_scores import stored_scores

    folder = RunFolder(path)
    classifier, figures = load(folder.model), folder.read_run_json()["training"]
    what = "linear model on words" if classifier.meta["method"] == "tfidf" else "tuned model"
    context.say(f"the {what} is that of {folder.path}")
    space, shifts = context.label_space, bool(figures.get("shifts_probabilities"))
    known = stored_scores(folder, "dev", context.dev, space)
    scores = (
        classifier.scorer.score(context.dev.iter_texts(), context.view) if known is None else known.scores
    )
    return Fitted(
        classifier.scorer, scores, figures, shifts, lambda rows: stored_scores(folder, "test", rows, space)
    )
