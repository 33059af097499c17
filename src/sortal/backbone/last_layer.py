"""The last layer only where its states are read: its keys and values serve every token, its output only a few.

A text's label is read at one of its tokens, an answer at a handful. Output projection and MLP of the last layer are therefore
computed for those alone: 84 % of the layer, which is 3 % of 30 layers and 5 % of 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sortal.backbone.lora import layer_index
from sortal.backbone.lora_layers import is_lora

# What a module may consist of to treat every token by itself.
_PER_TOKEN = (nn.Linear, Conv1D, nn.Dropout, nn.Identity)
_ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")


@contextmanager
def last_layer_at(base: nn.Module, read: torch.Tensor | None) -> Iterator[None]:
    """Inside, the final states ``[1, tokens, hidden]`` of a packed forward of ``base`` are right at ``read`` and say nothing elsewhere.

    Args:
        base: a decoder without its head; one whose last layer is not known computes everything.
        read: int64 positions, none twice where gradients are wanted; None for all.
    """
    if read is not None and not len(read):
        # A prompt that is only remembered: one token is computed, since not every product takes no rows at all.
        read = read.new_zeros(1)
    parts = [] if read is None else _parts(base)
    hooks = [hook for part in parts for hook in _narrow(part, read)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _parts(base: nn.Module) -> list[nn.Module]:
    """The last layer's modules behind its attention: the output projection and the MLP."""
    stack = _stack(base)
    if stack is None:
        return []
    last = list(base.get_submodule(stack).children())[-1]
    attention = getattr(last, "self_attn", None)
    found = [getattr(attention, "o_proj", None), getattr(last, "mlp", None)]
    return [module for module in found if module is not None and _treats_tokens_alone(module)]


# Going through all modules takes as long as tens of them compute, so the place is looked up once. What stands there may change.
_STACKS: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def _stack(base: nn.Module) -> str | None:
    """Where the stack of layers is: ``layers``; None where none is known."""
    if base not in _STACKS:
        found = {
            index: path
            for path, _ in base.named_modules()
            if (index := layer_index(f"{path}.x")) is not None and path.rpartition(".")[2].isdigit()
        }
        _STACKS[base] = found[max(found)].rpartition(".")[0] if found else None
    return _STACKS[base]


def _treats_tokens_alone(module: nn.Module) -> bool:
    """False for routers, convolutions over time and whatever else is not known."""
    if isinstance(module, _PER_TOKEN) or is_lora(module) or type(module).__module__ in _ACTIVATIONS:
        return True
    parts = list(module.children())
    return bool(parts) and all(map(_treats_tokens_alone, parts))


def _narrow(module: nn.Module, read: Any) -> list[Any]:
    tokens = 0

    def before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal tokens
        tokens = inputs[0].shape[1]
        return (inputs[0].index_select(1, read), *inputs[1:])

    def after(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        whole = output.new_zeros(output.shape[0], tokens, output.shape[2])
        return whole.index_copy(1, read, output)

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
