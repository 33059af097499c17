"""Plain matmul attention of rows of similar length, padded to a rectangle."""

from __future__ import annotations

import torch

from sortal.backbone.packing import AttentionGroup


def rectangle(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    group: AttentionGroup,
    scale: float,
    window: int | None,
    softcap: float | None,
    *,
    causal: bool = True,
) -> torch.Tensor:
    """Plain matmul attention of one group; query heads that share a key head share its matrix product.

    Measured on CPU for short rows in bf16 (benchmarks/step.py): this beats SDPA forward and backward.
    """
    rows, width = group.rows, group.width
    kv_heads, dim = k.shape[1], k.shape[2]
    share = q.shape[1] // kv_heads

    def cells(t: torch.Tensor) -> torch.Tensor:
        return t.reshape(t.shape[0], -1).index_select(0, group.gather).view(rows, width, kv_heads, -1, dim)

    # [rows, kv_heads, share * width, dim] and [rows, kv_heads, width, dim]
    queries = cells(q).permute(0, 2, 3, 1, 4).reshape(rows * kv_heads, share * width, dim)
    keys = cells(k).permute(0, 2, 3, 1, 4).reshape(rows * kv_heads, width, dim)
    values = cells(v).permute(0, 2, 3, 1, 4).reshape(rows * kv_heads, width, -1)
    logits = torch.bmm(queries, keys.transpose(1, 2)).mul_(scale).view(rows * kv_heads, share, width, width)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    bias = _causal_bias(width, window, logits) if causal else _two_sided_bias(group, window, logits, kv_heads)
    weights = (logits + bias).softmax(-1, dtype=torch.float32).to(v.dtype)
    mixed = torch.bmm(weights.view(rows * kv_heads, share * width, width), values)
    mixed = (
        mixed.view(rows, kv_heads, share, width, -1)
        .permute(0, 3, 1, 2, 4)
        .reshape(rows * width, q.shape[1], -1)
    )
    return mixed.index_select(0, group.scatter)


def _causal_bias(width: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    # Right padding needs no mask of its own: a real token only looks left, and padding cells are dropped in the end.
    ones = torch.ones(width, width, dtype=torch.bool, device=like.device)
    hidden = ones.triu(1)
    if window is not None and window < width:
        hidden |= ones.tril(-window)
    return torch.zeros(width, width, dtype=like.dtype, device=like.device).masked_fill_(hidden, float("-inf"))


def _two_sided_bias(
    group: AttentionGroup, window: int | None, like: torch.Tensor, kv_heads: int
) -> torch.Tensor:
    """``[rows * kv_heads, 1, width, width]``: every real cell of the row is seen, within the window on both sides."""
    real = torch.zeros(group.rows * group.width, dtype=torch.bool, device=like.device)
    real[group.scatter] = True
    hidden = ~real.view(group.rows, 1, 1, group.width).expand(-1, 1, group.width, -1)
    if window is not None and window < group.width:
        ones = torch.ones(group.width, group.width, dtype=torch.bool, device=like.device)
        hidden = hidden | ones.tril(-window) | ones.triu(window)
        hidden = hidden & ~torch.eye(
            group.width, dtype=torch.bool, device=like.device
        )  # a padding cell sees itself
    bias = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, float("-inf"))
    return bias.repeat_interleave(kv_heads, dim=0)
