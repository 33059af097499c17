"""Attention inside a pack with the kernels of `native`: all of it in one pass on a processor with a tile unit, else what stands between products.

`TileAttention` is the former. `CausalAttention` leaves the products of `rectangles`' blocks to torch: tokens go to their cells and back in one
pass each, scale, mask and softmax are one pass over the logits in place, and only the weights in bfloat16 are kept for backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from sortal.backbone import native
from sortal.backbone.packing import AttentionGroup
from sortal.backbone.rectangles import block_size, blocks, in_every_row


class CausalAttention(torch.autograd.Function):
    """q ``[tokens, heads, dim]``, k ``[tokens, kv_heads, dim]``, v ``[tokens, kv_heads, value_dim]`` → ``[tokens, heads, value_dim]``.

    Tensors are `native.ready` and in the pack's order. ``before``: keys and values ``[p, kv_heads, dim]`` that stand before every row; without gradients only.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        groups: tuple[AttentionGroup, ...],
        scale: float,
        window: int | None,
        before: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        """Group by group, block by block; states in cells and weights are kept for backward."""
        out = q.new_empty(len(q), q.shape[1], v.shape[2])
        p = len(before[0]) if before else 0
        kept: list[torch.Tensor] = []
        for group in groups:
            keys, values = (native.to_cells(t, group, 0, group.width).flatten(0, 1) for t in (k, v))
            if before:
                keys, values = (
                    torch.cat([in_every_row(own, group.rows), t], 1)
                    for own, t in zip(before, (keys, values), strict=True)
                )
            kept += keys, values
            for start, end, first, last in blocks(group.width, block_size(group.width), window, True, p):
                queries = native.to_cells(q, group, start, end).view(len(keys), -1, q.shape[2])
                weights = torch.bmm(queries, keys[:, first:last].transpose(1, 2))
                native.causal_softmax_(weights, end - start, p + start - first, window, scale)
                native.from_cells(torch.bmm(weights, values[:, first:last]), group, start, end, out)
                kept += queries, weights
        ctx.save_for_backward(*kept)
        ctx.groups, ctx.scale, ctx.window, ctx.shapes = groups, scale, window, (q.shape, k.shape, v.shape)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients to q, k and v, of the blocks in the order of forward."""
        grad = grad.contiguous()
        to_q, to_k, to_v = (grad.new_empty(shape) for shape in ctx.shapes)
        kept = iter(ctx.saved_tensors)
        for group in ctx.groups:
            keys, values = next(kept), next(kept)
            to_keys, to_values = torch.zeros_like(keys), torch.zeros_like(values)
            for start, end, first, last in blocks(group.width, block_size(group.width), ctx.window, True):
                queries, weights = next(kept), next(kept)
                found = native.to_cells(grad, group, start, end).view(len(keys), -1, values.shape[2])
                logits = torch.bmm(found, values[:, first:last].transpose(1, 2))
                native.causal_softmax_backward_(
                    logits, weights, end - start, start - first, ctx.window, ctx.scale
                )
                native.from_cells(torch.bmm(logits, keys[:, first:last]), group, start, end, to_q)
                to_keys[:, first:last] += torch.bmm(logits.transpose(1, 2), queries)
                to_values[:, first:last] += torch.bmm(weights.transpose(1, 2), found)
            native.from_cells(to_keys, group, 0, group.width, to_k)
            native.from_cells(to_values, group, 0, group.width, to_v)
        return to_q, to_k, to_v, None, None, None, None


class TileAttention(torch.autograd.Function):
    """Attention inside texts with `native.tile_attention`, whose arguments these are; nothing but them is kept for backward."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, texts: native.Texts
    ) -> torch.Tensor:
        """q's shape."""
        ctx.save_for_backward(q, k, v)
        ctx.texts = texts
        return native.tile_attention(q, k, v, texts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients to q, k and v."""
        q, k, v = ctx.saved_tensors
        return *native.tile_attention_backward(grad.contiguous(), q, k, v, ctx.texts), None
