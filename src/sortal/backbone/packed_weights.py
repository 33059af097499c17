"""Weights of a model that only answers on a CPU, kept in the layout that its products read.

A plain matrix is brought into that layout at every product. For a text alone, whose products are thin, that takes a third of the time.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sortal.backbone import native_products
from sortal.backbone.fused import is_silu_mlp
from sortal.backbone.lora import layer_index
from sortal.backbone.lora_layers import is_lora
from sortal.backbone.tile_layers import (
    in_tiles,
    is_known_layer,
    layer_in_tiles,
    linear_in_tiles,
    mlp_in_tiles,
    projections,
)

_ROWS = 32  # for which oneDNN's layout is chosen; products of 1 to 2,048 rows gain with any choice
_LONGEST = 4096  # inputs: beyond, oneDNN is faster than a product in tiles by itself


def pack_weights(model: nn.Module) -> int:
    """Repack the projections of the decoder's layers, where they are bf16 on a CPU that packs such; returns how many were.

    In tiles where a tile unit multiplies, and then a gated MLP, or a layer up to attention and behind it, is one product after the other in the core's cache; else in oneDNN's blocks.
    The plain matrix is given up for the packed one: `unpacked` has it back. In blocks products are the same bits; in tiles an MLP is rounded less often.
    """
    blocks = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    tiles, count = native_products.there(), 0
    mlps = [module for module in model.modules() if is_silu_mlp(module)]
    between = {id(layer) for mlp in mlps for layer in projections(mlp)}
    for layer in plain_linears(model):
        weight = layer.weight.data
        if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or is_packed(weight):
            continue
        short = weight.shape[1] <= _LONGEST or id(layer) in between
        if tiles and short and native_products.packable(weight):
            packed, forward = native_products.packed(weight), linear_in_tiles
        elif blocks:
            packed, forward = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS), _blocks_forward
        else:
            continue
        layer.weight = nn.Parameter(packed, requires_grad=False)
        layer.forward = types.MethodType(forward, layer)
        count += 1
    for mlp in mlps:
        if all(map(in_tiles, projections(mlp))):
            mlp.forward = types.MethodType(mlp_in_tiles, mlp)
    for module in model.modules() if tiles else ():
        if is_known_layer(module):
            module.forward = types.MethodType(layer_in_tiles, module)
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


def is_packed(weight: torch.Tensor) -> bool:
    """Whether a weight of a linear layer is in one of the two layouts."""
    return weight.is_mkldnn or weight.dim() == 4


def unpacked(weight: torch.Tensor) -> torch.Tensor:
    """A weight ``[out, in]`` as a plain matrix."""
    if weight.dim() == 4:
        return native_products.unpacked(weight)
    return weight.to_dense() if weight.is_mkldnn else weight


def _blocks_forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]
