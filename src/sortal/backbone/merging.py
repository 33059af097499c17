"""Adapters added to the weights they stand beside, for a model that only answers: one product instead of three.

The sum is taken in fp32 and rounded once. The adapters stay where they are, so a merged model is saved as the plain adapter it was tuned as.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sortal.backbone.lora_layers import is_lora


def merge_adapters(model: nn.Module) -> int:
    """Add every adapter to its weight, where that is a plain one of 16 or 32 bits; returns how many were added.

    Weights are replaced, not changed in place: whoever else holds them keeps what they were. Of a sharded weight
    (`sortal.backbone.sharding`) every process changes its own slice. Weights of 4 bits are left alone: a sum rounded to their few values would lose the adapter.
    """
    count = 0
    for module in model.modules():
        if is_lora(module) and not module.merged and _takes_sum(module):
            _merge(module)
            count += 1
    return count


def call_directly(model: nn.Module) -> None:
    """Let every merged projection be called as the layer it stands for, which saves a text alone some hundred turns through Python."""
    for module in model.modules():
        if is_lora(module) and module.merged:
            layer: Any = module.get_base_layer()
            if not hasattr(layer.weight, "sortal_shard"):
                module.forward = layer.forward


def _takes_sum(module: Any) -> bool:
    weight = getattr(module.get_base_layer(), "weight", None)
    plain = type(weight) is nn.Parameter and weight.dtype.is_floating_point
    return plain and not hasattr(weight, "quant_state") and len(getattr(module, "lora_A", {})) == 1


@torch.no_grad()
def _merge(module: Any) -> None:
    name, layer = module.active_adapters[0], module.get_base_layer()
    weight = layer.weight
    # Rounded like the weight: so they are multiplied while they are tuned, and so peft reads them back from a file.
    a, b = (pair[name].weight.to(weight.dtype).float() for pair in (module.lora_A, module.lora_B))
    if module.fan_in_fan_out:
        a, b = b.t(), a.t()
    shard, scale = getattr(weight, "sortal_shard", None), module.scaling[name]
    if shard is None:
        wide = torch.addmm(weight.data.float(), b, a, alpha=scale)
    else:
        wide = weight.data.float() + shard.own_part(scale * (b @ a))
    merged: Any = nn.Parameter(wide.to(weight.dtype), requires_grad=False)
    if shard is not None:
        merged.sortal_shard, merged.sortal_quant_state = shard, None
    layer.weight = merged
    # Where peft looks: it merges no second time, and multiplies with the sum alone.
    module.merged_adapters.append(name)
