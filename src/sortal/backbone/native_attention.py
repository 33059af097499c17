"""Attention inside a pack with the kernels of `native`: all of it in one pass on a processor with a tile unit, else what stands between products.

`TileAttention` is the former, and `TileTreeAttention` for rows below a prompt. `CausalAttention` leaves the products of `rectangles`' blocks to torch: tokens go to their cells and back in one
pass each, scale, mask and softmax are one pass over the logits in place, and only the weights in bfloat16 are kept for backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from sortal.backbone import native, native_tiles
from sortal.backbone.packing import AttentionGroup
from sortal.backbone.rectangles import block_size, blocks, in_every_row
from sortal.backbone.trees import TreePack


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
    """Attention inside texts with `native_tiles.attention`, whose arguments these are; nothing but them is kept for backward."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, texts: native_tiles.Texts
    ) -> torch.Tensor:
        """q's shape."""
        ctx.save_for_backward(q, k, v)
        ctx.texts = texts
        return native_tiles.attention(q, k, v, texts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients to q, k and v."""
        q, k, v = ctx.saved_tensors
        return *native_tiles.attention_backward(grad.contiguous(), q, k, v, ctx.texts), None


def tree_in_tiles(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor],
    pack: TreePack,
    scale: float,
) -> torch.Tensor:
    """Attention over a `TreePack` whose prompt has keys and values ``[p, kv_heads, dim]``, in the pack or in memory; q's shape."""
    out, p = torch.empty_like(q), pack.prompt_tokens
    if p:
        native_tiles.attention(q[:p], *prompt, _alone(p, scale), out[:p])
    for group in pack.groups:
        native_tiles.tree_attention(q, k, v, prompt, group, scale, out)
    return out


class TileTreeAttention(torch.autograd.Function):
    """`tree_in_tiles` of a pack that holds its prompt and rows that are chains, with gradients."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pack: TreePack, scale: float
    ) -> torch.Tensor:
        """q's shape."""
        ctx.save_for_backward(q, k, v)
        ctx.pack, ctx.scale, p = pack, scale, pack.prompt_tokens
        return tree_in_tiles(q, k, v, (k[:p], v[:p]), pack, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients to q, k and v; the prompt's are summed over rows in fp32."""
        q, k, v = ctx.saved_tensors
        grad, p = grad.contiguous(), ctx.pack.prompt_tokens
        to = to_q, to_k, to_v = tuple(map(torch.empty_like, (q, k, v)))
        to_prompt = [torch.zeros_like(t[:p], dtype=torch.float32) for t in (k, v)]
        for group in ctx.pack.groups:
            prompt = (k[:p], v[:p])
            native_tiles.tree_attention_backward(grad, q, k, v, prompt, group, ctx.scale, to, to_prompt)
        own = native_tiles.attention_backward(grad[:p], q[:p], k[:p], v[:p], _alone(p, ctx.scale))
        to_q[:p] = own[0]
        for whole, of_rows, of_prompt in zip((to_k, to_v), to_prompt, own[1:], strict=True):
            whole[:p] = of_rows + of_prompt
        return to_q, to_k, to_v, None, None


def _alone(p: int, scale: float) -> native_tiles.Texts:
    """A prompt as the only text."""
    return native_tiles.Texts(torch.tensor([0, p], dtype=torch.int32), p, scale, None, True)
