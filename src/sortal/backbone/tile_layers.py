"""What the modules of a decoder compute once their weights are in tiles (`packed_weights`): a linear layer, a gated MLP, a whole layer.

Between the products of a layer stand two norms, rotary positions and two sums, each a pass over states that are larger than a core's cache. `native_products`
treats some hundred rows at a time before attention and behind it, while they are near. The bits are those of the modules one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sortal.backbone import attention, native, native_products
from sortal.backbone.fused import is_silu_mlp, mlp_forward
from sortal.backbone.lora_layers import is_lora
from sortal.backbone.native_products import Norm
from sortal.backbone.rotary import is_rotary_attention, signed_sines


def linear_in_tiles(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Forward of a linear layer whose weight is in tiles."""
    out = native_products.linear(x, self.weight)
    return out if self.bias is None else out.add_(self.bias)


def mlp_in_tiles(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Forward of a gated MLP whose weights were in tiles when it got this."""
    layers = projections(self)
    if not all(map(in_tiles, layers)):  # in 8 bits by now
        return mlp_forward(self, x)
    return native_products.mlp(x, *(layer.weight for layer in layers))


def is_known_layer(module: nn.Module) -> bool:
    """A layer of Llama's kind: norm, attention with rotary positions, sum, norm, gated MLP, sum, whose parts `sortal.backbone.lora.fuse` knows, too."""
    if type(module).__name__ != "LlamaDecoderLayer":
        return False
    layer: Any = module
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    known = all(getattr(norm, "_sortal_plus_one", None) is False for norm in norms)
    return known and is_silu_mlp(layer.mlp) and is_rotary_attention(layer.self_attn)


def layer_in_tiles(self: Any, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Forward of a known layer whose weights were in tiles when it got this; step by step where it has other work than a packed row's."""
    attends, (cosine, sine) = self.self_attn, kwargs["position_embeddings"]
    signed, _ = signed_sines(sine)
    before = [bare(getattr(attends, name)) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    behind = projections(self.mlp)
    norms = (self.input_layernorm, self.post_attention_layernorm)
    if (
        kwargs.get("past_key_values") is not None
        or attends.config._attn_implementation != attention.NAME
        or not all(map(in_tiles, before + behind))
        or not native.ready(hidden_states, cosine, signed, *(norm.weight for norm in norms))
        or len(hidden_states) > 1
        or cosine.shape[-1] != attends.head_dim
        or _narrowed(attends.o_proj)
    ):
        return type(self).forward(self, hidden_states, **kwargs)  # type: ignore[no-any-return]
    first, second = (Norm(norm.weight, norm._sortal_eps) for norm in norms)
    weights = [layer.weight for layer in before[:3]]
    found = native_products.queries_keys_values(hidden_states, first, weights, cosine[0], signed[0])
    q, k, v = (t.view(1, len(t), -1, attends.head_dim).transpose(1, 2) for t in found)
    told = {key: value for key, value in kwargs.items() if key not in _OF_THE_LAYER}
    states, _ = attention.packed_attention(attends, q, k, v, None, scaling=attends.scaling, **told)
    rest = (layer.weight for layer in behind)
    return native_products.behind_attention(states.flatten(2), hidden_states, before[3].weight, second, *rest)


_OF_THE_LAYER = ("attention_mask", "past_key_values", "position_embeddings")


def _narrowed(module: nn.Module) -> bool:
    """Whether only some tokens are wanted of it (`sortal.backbone.last_layer`)."""
    return bool(module._forward_pre_hooks)


def projections(mlp: Any) -> list[Any]:
    """Gate, up and down of a gated MLP, as `bare`."""
    return [bare(module) for module in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)]


def bare(module: Any) -> Any:
    """A linear layer without the adapter that was added to it."""
    return module.get_base_layer() if is_lora(module) and module.merged else module


def in_tiles(layer: Any) -> bool:
    """Whether a layer is its weight in tiles and nothing else."""
    return type(layer) is nn.Linear and layer.weight.dim() == 4 and layer.bias is None
