"""The memory of a run's steps, estimated before the first one, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import torch

from sortal.backbone.checkpointing import checkpoint_layers
from sortal.backbone.language_model import LanguageModel
from sortal.backbone.lora import parameter_count
from sortal.config import RunConfig
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
)
from sortal.training.step_memory import Shape

_SMALL = 50_000_000  # parameters; on a CPU a step of fewer takes no memory worth the seconds of a rehearsal
# What transformers and torch raise where a network cannot be made from its config alone.
_UNKNOWN = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, NotImplementedError)
# What torch's matrix library and the allocator keep beside tensors on a CPU in bf16: 0.34 GB at the end of 556 steps of a head.
_LIBRARIES = 350_000_000
_UPDATE = 12  # bytes per trained parameter that do not exist yet: its gradient and two moments


def budget_steps(
    context: FitContext, model: HeadModel | LanguageModel | EncoderModel, longest: int, prompt: int = 0
) -> StepBudget:
    """Rehearse a step, choose the size of a microbatch, switch checkpointing on in ``model`` where it is needed, and say what that takes.

    Args:
        longest: tokens of the longest text; prompt: of what all texts share.
    """
    config, device = context.config, context.processes.device
    wanted = CHECKPOINTING[config.gradient_checkpointing]
    dropout = config.lora_dropout > 0 or config.encoder_dropout > 0
    network = network_of(model, config, device)
    rule = StepBudget(config.max_tokens or default_max_tokens(network.settings, network.dtype, device))
    trained, total = parameter_count(model)
    small = device.type == "cpu" and total < _SMALL
    padded = (isinstance(model, HeadModel) and not model.packed) or (
        isinstance(model, LanguageModel) and not model.shares
    )
    if padded or config.shard_base or (small and wanted is None):
        if wanted:
            checkpoint_layers(model, dropout)
        return replace(rule, checkpointing=bool(wanted))
    try:
        plain = network.step(checkpointing=False)
    except _UNKNOWN as error:  # an architecture that a config alone does not make work
        context.say(
            f"no estimate of the memory: {type(error).__name__} in a rehearsal of {type(model).__name__}"
        )
        return rule
    held, update = held_now(device), _UPDATE * trained
    if device.type == "cpu" and network.dtype == torch.bfloat16:
        held += _LIBRARIES
    tokens, checkpointed = choose_budget(
        plain,
        lambda: network.step(checkpointing=True),
        free=free_memory(device) - update,
        ceiling=ceiling(device),
        longest=longest,
        prompt=prompt,
        asked=config.max_tokens,
        checkpointing=wanted,
    )
    # The memory of processes may differ, and what they do must not.
    tokens = -context.processes.largest(-tokens)
    recompute = context.processes.any(checkpointed is not None)
    if recompute:
        checkpoint_layers(model, dropout)
    largest = Shape(max(1, (tokens - prompt) // longest), longest, prompt)
    step = (checkpointed or plain).at(largest)
    context.say(
        f"estimated peak memory {(held + update + step) / 1e9:.1f} GB: {(held + update) / 1e9:.1f} GB without a step, {step / 1e9:.1f} GB for a microbatch of {tokens:,} tokens"
        + (", whose layers are computed twice" if recompute else "")
    )
    return StepBudget(tokens, recompute, held + update + step)


def network_of(
    model: HeadModel | LanguageModel | EncoderModel, config: RunConfig, device: torch.device
) -> Network:
    """What a rehearsal has to know about ``model``."""
    if isinstance(model, EncoderModel):
        return Network("encoder", model.whole.config, config, model.dtype, device)
    if isinstance(model, LanguageModel):
        return Network("instruct", model.inner.config, config, model.inner.dtype, device)
    return Network("head", model.inner.config, config, model.inner.dtype, device, model.pooling)
