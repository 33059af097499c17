"""What every fine-tuned method does around its own network and objective: the loop, dev figures, and what training cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.lora import flops_per_token, parameter_count
from sortal.config import ResolvedConfig, RunConfig, resolve_sizes
from sortal.config_presets import PRESET_METHODS
from sortal.data.labels import LabelSpace
from sortal.evaluation.decision import Decision
from sortal.evaluation.metrics import evaluate
from sortal.hierarchy.losses import TreeLoss, tree_loss
from sortal.hierarchy.units import Units
from sortal.methods.base import FitContext, Scores
from sortal.methods.preview import cut_sections
from sortal.training.budget import StepBudget, peak_memory
from sortal.training.forecast import Forecast, computed_tokens, foresee
from sortal.training.loop import Loop
from sortal.training.losses import Loss, make_loss
from sortal.training.objective import Objective
from sortal.training.progress import NoProgress, ProgressView
from sortal.training.signals import Stoppable

_LEAST_TOKENS = 256  # of a microbatch's own texts, whatever its prompt takes


@dataclass(frozen=True)
class Tuned:
    """Dev scores of the weights that were kept, and figures for run.json."""

    dev_scores: Scores
    figures: dict[str, Any]


def fine_tune(
    context: FitContext,
    model: nn.Module,
    objective: Objective,
    score_dev: Callable[[ProgressView], Scores],
    budget: StepBudget,
) -> Tuned:
    """Train ``model`` on ``objective``; ``context.dev`` has a say in which epoch is kept.

    Args:
        score_dev: scores of the dev rows under the current weights.
        budget: of a microbatch, the objective's shared tokens included.
    """
    config, space = resolve_sizes(context.config, len(context.train)), context.label_space
    if budget.checkpointing:  # a recorded step cannot be computed twice
        config = config.model_copy(update={"cuda_graphs": False})
    dev_gold = space.encode(context.dev)
    # With several processes a stop waits for the end of the evaluation: all must leave it together.
    view = Stoppable(context.stop) if context.processes.world == 1 else NoProgress()
    latest: list[Scores] = []

    def figures() -> dict[str, float]:
        latest[:] = [score_dev(view)]
        return dev_figures(latest[0], dev_gold, space, config)

    loop = Loop(
        model,
        objective,
        figures,
        config,
        processes=context.processes,
        max_tokens=max(budget.max_tokens - objective.shared_tokens, min(budget.max_tokens, _LEAST_TOKENS)),
        store=context.store,
        stop=context.stop,
        view=context.view,
        say=context.say,
        on_log=context.on_log,
        margin=_margin(context),
    )
    if context.resume:
        loop.resume()
    ahead, before = _ahead(context, model, objective, config, budget, loop), loop.progress.train_seconds
    first = loop.progress.step
    if ahead:
        context.say(ahead.line(_named(config)))
    began = time.monotonic()
    progress = loop.run()
    best_is_last = bool(progress.history) and progress.history[-1]["step"] == progress.best_step
    trained, total = parameter_count(model)
    foreseen = {}
    if ahead and progress.step > first:
        foreseen = ahead.beside(progress.train_seconds - before, progress.step - first)
        context.say(f"training took {foreseen['used_of_foreseen']:.2f} times as long as foreseen")
    return Tuned(
        latest[0] if latest and best_is_last else score_dev(context.view),
        {
            "trainable_parameters": trained,
            "parameters": total,
            "steps": progress.step,
            "tokens": progress.tokens,
            "train_seconds": round(progress.train_seconds, 3),
            "wall_seconds_with_dev": round(time.monotonic() - began, 3),
            "tokens_per_second": round(progress.tokens / max(progress.train_seconds, 1e-9), 1),
            **({"forecast": foreseen} if foreseen else {}),
            "max_tokens": progress.max_tokens,
            "gradient_checkpointing": budget.checkpointing,
            "skipped_steps": progress.skipped_steps,
            "out_of_memory_retries": progress.out_of_memory_retries,
            "best_step": progress.best_step,
            "history": progress.history,
            "peak_memory_bytes": peak_memory(context.processes.device),
            **({} if budget.peak_bytes is None else {"estimated_peak_bytes": budget.peak_bytes}),
        },
    )


def _ahead(
    context: FitContext,
    model: nn.Module,
    objective: Objective,
    config: ResolvedConfig,
    budget: StepBudget,
    loop: Loop,
) -> Forecast | None:
    """What the steps from here on will take; None where nobody has to wait for them."""
    left = loop.total_steps - loop.progress.step
    rows, shared = len(objective.lengths), objective.shared_tokens
    tokens = computed_tokens(
        int(objective.lengths.sum()), rows, config.batch_size, shared, loop.progress.max_tokens
    )
    each = flops_per_token(model, only_trained=getattr(model, "trunk", None) is not None)
    if budget.checkpointing:  # forward once more
        each = each * 3 // 2
    epochs = left / loop.steps_per_epoch
    network: Any = getattr(model, "inner", model)
    seconds = (
        math.inf if config.max_minutes is None else 60 * config.max_minutes - loop.progress.train_seconds
    )
    found = foresee(
        each * tokens * epochs / context.processes.world,
        left,
        epochs,
        tokens,
        context.processes.device,
        network.dtype,
        trained=parameter_count(model)[0],
        at_most=max(seconds, 0.0),
    )
    return found if found and found.worth_saying else None


def _margin(context: FitContext) -> float:
    """By how much an earlier epoch's dev figure must be above the last one's to be kept: one standard error of a share of one half; of a loss any.

    The one-standard-error rule of Breiman et al. 1984, Classification and Regression Trees.
    """
    if context.config.metric_for_best_model == "loss":
        return 0.0
    return math.sqrt(0.25 / max(len(context.dev), 1))


def _named(config: RunConfig) -> str:
    if config.method not in PRESET_METHODS:
        return config.method
    return f"preset {config.preset}"


def training_loss(
    config: RunConfig, space: LabelSpace, gold: np.ndarray[Any, Any], units: Units | None
) -> Loss | TreeLoss:
    """The loss of labels, or of the ``units`` of their tree; arguments as of `make_loss`.

    Raises:
        ConfigError: weights that do not fit the labels.
    """
    return make_loss(config, space.task, space.names, gold) if units is None else tree_loss(units)


def dev_figures(
    scores: Scores, gold: np.ndarray[Any, Any], space: LabelSpace, config: RunConfig
) -> dict[str, float]:
    """Dev metrics; for multi-label under one global threshold tuned on the same rows, which is for choosing weights only."""
    decision = Decision.fit(
        scores,
        gold,
        space.task,
        thresholds="global",
        threshold_metric=config.threshold_metric,
        tree=space.tree,
    )
    found = evaluate(scores, gold, decision, space, n_resamples=0)
    shown: dict[str, float] = {
        str(key): float(found[key]) for key in ("accuracy", "f1_micro", "f1_macro") if key in found
    }
    shown["loss"] = float(found["log_loss"])
    wanted = config.metric_for_best_model
    if wanted not in shown:  # accuracy of a multi-label task is the share of exactly right rows
        shown[wanted] = float(found["subset_accuracy"])
    shown["metric"] = -shown["loss"] if wanted == "loss" else shown[wanted]
    return shown


def lengths_line(train: EncodedTexts, encoder: TextEncoder) -> str:
    """How long the training texts are, and how many were cut."""
    lengths, long = train.lengths, encoder.long
    limit = f"{encoder.max_length} tokens"
    found = f"{len(train):,} training texts, {train.tokens:,} tokens with template (median {int(np.median(lengths))}, max {int(lengths.max())}); "
    if train.firsts is not None:
        counts = np.diff(train.firsts)
        found += f"{int((counts > 1).sum()):,} in several windows of {limit} that share {long.stride} ({counts.mean():.1f} windows per text, their {long.aggregation}); "
        limit = f"{long.windows} windows"
    found += f"{train.truncated:,} truncated to {limit} ({100 * train.truncated / len(train):.1f} %, keeps the {encoder.truncation})"
    if train.beginning:
        found += f"; {len(train.beginning):,} tokens before every text are read once per microbatch"
    return found + cut_sections(train.section_cuts)


def text_figures(train: EncodedTexts, encoder: TextEncoder) -> dict[str, Any]:
    """For run.json: how the training texts were read, and how many were cut."""
    windows = None if train.firsts is None else np.diff(train.firsts)
    return {
        "template_hash": encoder.hash,
        "truncated_train_rows": train.truncated,
        **({"truncated_sections": train.section_cuts} if train.section_cuts else {}),
        **(
            {}
            if windows is None
            else {"windows": int(windows.sum()), "texts_in_windows": int((windows > 1).sum())}
        ),
    }


def parameters_line(model: nn.Module) -> str:
    """How much of the model is trained."""
    trained, total = parameter_count(model)
    return f"{trained:,} trainable of {total:,} parameters ({100 * trained / total:.2f} %)"
