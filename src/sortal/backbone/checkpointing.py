"""Gradient checkpointing of a frozen decoder: a layer's activations are dropped and computed again when backward gets there.

transformers' own switch needs layers in training mode, which would also turn on what training mode means to a frozen base.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sortal.backbone.lora import decoder_layers


def checkpoint_layers(model: nn.Module, dropout: bool) -> int:
    """Let every layer but the last keep its input only; returns how many do.

    A step then holds a fraction of its activations and computes a third more: forward runs twice. The last layer is needed again at
    once. Outputs and gradients are those of the plain layers, and without gradients nothing changes.

    Args:
        dropout: whether the layers draw random numbers, which the second forward has to draw again; asking a GPU for its state costs a wait.
    """
    layers = decoder_layers(model)[:-1]
    for layer in layers:
        layer.forward = partial(_forward, layer.forward, dropout)
    return len(layers)


def _forward(plain: Any, dropout: bool, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return plain(states, *args, **kwargs)
    return checkpoint(
        partial(plain, **kwargs), states, *args, use_reentrant=False, preserve_rng_state=dropout
    )
