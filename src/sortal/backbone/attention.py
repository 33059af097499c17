"""Attention over a `Pack` or a `TreePack`: examples never see each other, and only real rectangles are computed.

Registered with transformers as ``sortal_packed``; the pack travels through the model's keyword arguments as
``sortal_pack``. transformers builds no mask for an implementation it has no mask function for, so causality, the sliding
window and the example borders are all decided here.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn.attention import varlen
from transformers import AttentionInterface

from sortal.backbone import native, native_tiles
from sortal.backbone.fused import computed
from sortal.backbone.native_attention import CausalAttention, TileAttention
from sortal.backbone.packing import Pack
from sortal.backbone.rectangles import rectangle
from sortal.backbone.tree_attention import tree_attention
from sortal.backbone.trees import TreePack

NAME = "sortal_packed"


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    sortal_pack: Pack | TreePack | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention inside every example of a pack, causal unless the pack says otherwise.

    Args:
        query: ``[1, heads, tokens, head_dim]``; key, value: ``[1, kv_heads, tokens, head_dim]``.
        sliding_window: number of most recent positions a token sees, itself included; without causality, as many ahead.
        softcap: logits become ``softcap * tanh(logits / softcap)`` (Gemma 2).

    Returns:
        ``[1, tokens, heads, head_dim]`` and None (weights are never kept).
    """
    if sortal_pack is None:
        raise RuntimeError("sortal_packed attention was called without a pack")
    if dropout:
        raise RuntimeError(
            "attention dropout is not supported on packed rows; set it to 0 in the model config"
        )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    # Not t[0]: its gradient is a copy among zeros, in another order.
    q, k, v = (t.squeeze(0).transpose(0, 1) for t in (query, key, value))
    if isinstance(sortal_pack, TreePack):
        layer: int = module.layer_idx  # type: ignore[assignment]
        return tree_attention(q, k, v, sortal_pack, layer, scale, sliding_window, softcap)[None], None
    if softcap is None and _can_use_varlen(q) and sortal_pack.prefix is None:
        return _varlen(q, k, v, sortal_pack, scale, sliding_window)[None], None
    causal, prefix, before = sortal_pack.causal, sortal_pack.prefix, None
    if prefix is not None:
        number: int = module.layer_idx  # type: ignore[assignment]
        if prefix.tokens:
            before = prefix.layers[number]
        else:
            prefix.layers[number] = (k, v)
    if softcap is None and native_tiles.ready(q, k, v, *(before or ())):
        starts, longest = sortal_pack.cu_seqlens, sortal_pack.max_length
        texts = native_tiles.Texts(starts, longest, scale, sliding_window, causal, before)
        return computed(TileAttention, q, k, v, texts)[None], None
    if causal and softcap is None and native.ready(q, k, v):
        groups = sortal_pack.groups
        return computed(CausalAttention, q, k, v, groups, scale, sliding_window, before)[None], None
    pieces = [
        rectangle(q, k, v, group, scale, sliding_window, softcap, causal=causal, before=before)
        for group in sortal_pack.groups
    ]
    if len(sortal_pack.cu_seqlens) == 2:  # a text alone is in order
        return pieces[0][None], None
    joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return joined.index_select(0, sortal_pack.inverse)[None], None


# From torch 2.12 on, fewer key heads than query heads have to be announced; the kernel has always taken them.
_SAYS_GQA = "enable_gqa" in inspect.signature(varlen.varlen_attn).parameters


def _can_use_varlen(q: torch.Tensor) -> bool:
    return q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)


def _varlen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pack: Pack, scale: float, window: int | None
) -> torch.Tensor:
    """torch's own variable-length flash kernel (CUDA, half precision): no wheel to build, no padding."""
    left = -1 if window is None else window - 1
    grouped: dict[str, Any] = {"enable_gqa": q.shape[1] != k.shape[1]} if _SAYS_GQA else {}
    out = varlen.varlen_attn(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        pack.cu_seqlens,
        pack.cu_seqlens,
        pack.max_length,
        pack.max_length,
        scale=scale,
        window_size=(left, 0 if pack.causal else left),
        **grouped,
    )
    assert isinstance(out, torch.Tensor)
    return out


AttentionInterface.register(NAME, packed_attention)
