"""The memory of a run's steps, estimated before the first one, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import torch

from sortal.backbone.checkpointing import checkpoint_layers
from sortal.backbone.language_model import LanguageModel
from sortal.backbone.lora import parameter_count
from sortal.config import RunConfig, resolve_sizes
from sortal.methods.base import FitContext
from sortal.methods.encoder_model import EncoderModel
from sortal.methods.head_model import HeadModel
from sortal.methods.rehearsal import Network
from sortal.training.budget import (
    CHECKPOINTING,
    StepBudget,
    ceiling,
    choose_budget,
    default_max_tokens,
    free_memory,
    held_now,
    kept_by_libraries,
)
from sortal.training.objective import Objective
from sortal.training.order import most_tokens

_SMALL = 50_000_000  # parameters; on a CPU a step of fewer takes no memory worth the seconds of a rehearsal
# What transformers and torch raise where a network cannot be made from its config alone.
_UNKNOWN = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, NotImplementedError)
_UPDATE = 12  # bytes per trained parameter that do not exist yet: its gradient and two moments


def budget_steps(
    context: FitContext, model: HeadModel | LanguageModel | EncoderModel, objective: Objective
) -> StepBudget:
    """Rehearse a step, choose the size of a microbatch, switch checkpointing on in ``model`` where it is needed, and say what that takes."""
    config, device = context.config, context.processes.device
    wanted = CHECKPOINTING[config.gradient_checkpointing]
    network = replace(network_of(model, config, device), prompted=objective.shared_tokens > 0)
    rule = StepBudget(config.max_tokens or default_max_tokens(network.settings, network.dtype, device))
    small = device.type == "cpu" and parameter_count(model)[1] < _SMALL
    padded = (isinstance(model, HeadModel) and not model.packed) or (
        isinstance(model, LanguageModel) and not model.shares
    )
    if padded or config.shard_base or (small and wanted is None):
        if wanted:
            checkpoint_layers(model, dropout=draws(config))
        return replace(rule, checkpointing=bool(wanted))
    try:
        _ = network.plain
    except _UNKNOWN as error:  # an architecture that a config alone does not make work
        context.say(
            f"no estimate of the memory: {type(error).__name__} in a rehearsal of {type(model).__name__}"
        )
        return rule
    return fit_steps(context, model, objective, network)


def fit_steps(
    context: FitContext,
    model: HeadModel | LanguageModel | EncoderModel,
    objective: Objective,
    network: Network,
) -> StepBudget:
    """`budget_steps` where ``network`` can be rehearsed."""
    config, processes = context.config, context.processes
    longest, prompt = int(objective.lengths.max()), objective.shared_tokens
    update = _UPDATE * parameter_count(model)[0]
    held = held_now(processes.device) + kept_by_libraries(processes.device, network.dtype) + update
    tokens, checkpointed = choose_budget(
        network.plain,
        lambda: network.checkpointed,
        free=free_memory(processes.device) - update,
        ceiling=ceiling(processes.device),
        longest=longest,
        prompt=prompt,
        asked=config.max_tokens,
        checkpointing=CHECKPOINTING[config.gradient_checkpointing],
    )
    # The memory of processes may differ, and what they do must not.
    tokens = -processes.largest(-tokens)
    recompute = processes.any(checkpointed is not None)
    if recompute:
        checkpoint_layers(model, dropout=draws(config))
    sizes = resolve_sizes(config, len(objective.lengths))
    largest = max(min(tokens, prompt + most_tokens(objective.lengths, sizes, processes)), prompt + longest)
    memory = network.checkpointed if recompute else network.plain
    step = memory.of_tokens(largest, longest, prompt)
    context.say(
        f"estimated peak memory {(held + step) / 1e9:.1f} GB: {held / 1e9:.1f} GB without a step, {step / 1e9:.1f} GB for the largest microbatch, of {largest:,} tokens where {tokens:,} are allowed"
        + ("; layers are computed twice" if recompute else "")
    )
    return StepBudget(tokens, recompute, held + step)


def draws(config: RunConfig) -> bool:
    """Whether layers draw random numbers."""
    return config.lora_dropout > 0 or config.encoder_dropout > 0


def network_of(
    model: HeadModel | LanguageModel | EncoderModel, config: RunConfig, device: torch.device
) -> Network:
    """What a rehearsal has to know about ``model``."""
    if isinstance(model, EncoderModel):
        return Network("encoder", model.whole.config, config, model.dtype, device)
    if isinstance(model, LanguageModel):
        return Network("instruct", model.inner.config, config, model.inner.dtype, device)
    return Network("head", model.inner.config, config, model.inner.dtype, device, model.pooling)
