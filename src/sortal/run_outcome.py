"""What the scores of a fitted method come to: its decision, and the predictions and figures of a run's dev and test rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sortal.classifier import Classifier
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.evaluation.clusters import Clusters
from sortal.evaluation.decision import Decision
from sortal.evaluation.metrics import evaluate
from sortal.evaluation.predictions import write_predictions
from sortal.evaluation.without_rows import without_rows
from sortal.hierarchy.unseen import left_out_figures
from sortal.methods.base import Fitted, Scored, Scorer, Scores
from sortal.parts import Parts
from sortal.training.progress import Patient, ProgressView
from sortal.training.runfolder import RunFolder

Say = Callable[[str], None]
_ALONE = 20  # texts that are scored one by one
_SHIFTING = "class weights, another loss than the plain one, smoothed noes or logit adjustment"


def decide(fitted: Fitted, parts: Parts, config: RunConfig, say: Say) -> Decision:
    """Temperature and thresholds or the abstain rule, from the dev scores alone."""
    gold = parts.label_space.encode(parts.dev)
    if fitted.shifts_probabilities and not config.temperature_scaling:
        say(
            f"warning: {_SHIFTING} shift the probabilities, and temperature scaling is off: they are not calibrated"
        )
    elif fitted.shifts_probabilities:
        say(f"{_SHIFTING} shift the probabilities; they are recalibrated on dev")
    return Decision.fit(
        fitted.dev_scores,
        gold,
        parts.label_space.task,
        temperature_scaling=config.temperature_scaling,
        thresholds=config.thresholds,
        threshold_metric=config.threshold_metric,
        abstain_below=config.abstain_below,
        seed=config.seed,
        tree=parts.label_space.tree,
    )


def evaluate_test(
    classifier: Classifier,
    scores: Scores,
    parts: Parts,
    config: RunConfig,
    folder: RunFolder,
    view: ProgressView,
) -> dict[str, Any]:
    """Predictions of the test rows on disk, and the content of metrics.json."""
    rows, space, decision = parts.test, classifier.label_space, classifier.decision
    gold = space.encode(rows)
    probabilities = decision.probabilities(scores)
    decided = decision.decide(probabilities)
    groups = rows.groups
    write_predictions(folder.predictions, rows.ids, probabilities, decided, space, gold=gold, groups=groups)
    resampling: dict[str, Any] = {
        "n_resamples": config.n_resamples,
        "seed": config.seed,
        "clusters": Clusters.of(groups),
    }
    metrics = evaluate(scores, gold, decision, space, frequencies=classifier.frequencies, **resampling)
    if (left_out := parts.left_out.get("test")) is not None:
        metrics["left_out"] = left_out_figures(left_out, metrics)
    # scikit-learn takes a second to import
    from sortal.checks.twins import context_of, find_twins, write_twins

    context = context_of(parts.train, parts.dev, rows, view=Patient(view))
    twins = find_twins(context)
    if len(twins.rows):
        write_twins(folder.twins, twins, context)
    answers = [(gold, decided)]
    metrics["without_twins"] = twins.counts() | without_rows(
        answers, len(space), space.task, twins.rows, **resampling
    )
    return {"split": "test", **metrics}


def score_test(fitted: Fitted, rows: Dataset, view: ProgressView) -> Scored:
    """Scores of the test rows: those that finished runs have written down, else read now."""
    if fitted.stored is not None and (found := fitted.stored(rows)) is not None:
        return found
    began = time.monotonic()
    scores = fitted.scorer.score(rows.iter_texts(), view)
    return Scored(scores, time.monotonic() - began)


def keep_dev(classifier: Classifier, scores: Scores, parts: Parts, folder: RunFolder) -> None:
    """Predictions of the dev rows, for whoever wants to choose by them: another threshold, a blend."""
    if not len(scores):
        return
    space, decision = classifier.label_space, classifier.decision
    probabilities = decision.probabilities(scores)
    gold, decided = space.encode(parts.dev), decision.decide(probabilities)
    write_predictions(
        folder.dev_predictions,
        parts.dev.ids,
        probabilities,
        decided,
        space,
        gold=gold,
        groups=parts.dev.groups,
    )


def seconds_alone(scorer: Scorer, parts: Parts) -> float | None:
    """Median seconds of scoring one text at a time, as a server does; None without test rows."""
    texts = parts.test.text_at(np.arange(min(_ALONE, len(parts.test))))
    seconds = []
    for text in texts:
        began = time.perf_counter()
        scorer.score([text])
        seconds.append(time.perf_counter() - began)
    return round(float(np.median(seconds)), 5) if seconds else None
