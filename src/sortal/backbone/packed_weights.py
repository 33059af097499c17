"""Weights of a model that only answers on a CPU, kept in the layout that its matrix library multiplies from.

A plain matrix is brought into that layout at every product. For a text alone, whose products are thin, that takes a third of the time.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sortal.backbone.lora import layer_index
from sortal.backbone.lora_layers import is_lora

_ROWS = 32  # for which the layout is chosen; products of 1 to 2,048 rows gain with any choice


def pack_weights(model: nn.Module) -> int:
    """Repack the projections of the decoder's layers, where they are bf16 on a CPU that packs such; returns how many were.

    The plain matrix is given up for the packed one: `unpacked` has it back. Products are the same.
    """
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return 0
    count = 0
    for layer in plain_linears(model):
        weight = layer.weight
        if weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and not weight.is_mkldnn:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.data, _ROWS)
            layer.weight = nn.Parameter(packed, requires_grad=False)
            layer.forward = types.MethodType(_packed_forward, layer)
            count += 1
    return count


def plain_linears(model: nn.Module) -> Iterator[Any]:
    """The projections of a decoder's layers that multiply with their weight and do nothing else: no adapter beside it, no other storage, no slice of it."""
    beside = {
        id(module.get_base_layer()) for module in model.modules() if is_lora(module) and not module.merged
    }
    for path, module in model.named_modules():
        own = type(module) is nn.Linear and layer_index(path) is not None and ".lora_" not in path
        if own and id(module) not in beside and not hasattr(module.weight, "sortal_shard"):
            yield module


def unpacked(weight: torch.Tensor) -> torch.Tensor:
    """A weight ``[out, in]`` as a plain matrix."""
    return weight.to_dense() if weight.is_mkldnn else weight


def _packed_forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]
