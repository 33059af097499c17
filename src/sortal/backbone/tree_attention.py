"""Attention over a `TreePack`: the shared prompt's keys are one dense rectangle for all rows, each row's own keys a small one.

One softmax runs over both, so the result is the attention of ``prompt + row`` computed row by row, and gradients flow into the
prompt from every row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from sortal.backbone import native_tiles
from sortal.backbone.fused import computed
from sortal.backbone.native_attention import TileTreeAttention, tree_in_tiles
from sortal.backbone.packing import AttentionGroup
from sortal.backbone.rectangles import rectangle
from sortal.backbone.trees import TreeGroup, TreePack


def tree_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    pack: TreePack,
    layer: int,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Attention of every token of a pack, ``[tokens, heads, head_dim]``.

    Args:
        q: ``[tokens, heads, head_dim]``; k, v: ``[tokens, kv_heads, head_dim]``.
        layer: number of the layer, under which `Memory` keeps keys and values.
        window: number of most recent positions a token sees, itself included.
        softcap: logits become ``softcap * tanh(logits / softcap)``.
    """
    p, memory = pack.prompt_tokens, pack.memory
    prompt = (k[:p], v[:p])
    joined: list[torch.Tensor] = []
    keys, values, key_positions = k, v, pack.position_ids[0]
    if memory is not None:
        if p:
            memory.prompt[layer] = prompt
        elif memory.prompt_tokens:
            prompt = memory.prompt[layer]
        if memory.positions is not None:
            kept_keys, kept_values = memory.rows[layer]
            keys, values = torch.cat([kept_keys, k]), torch.cat([kept_values, v])
            key_positions = torch.cat([memory.positions, key_positions])
        if memory.grow:
            memory.rows[layer] = (keys, values)
    states = (q, keys, values, *prompt)
    if window is None and softcap is None and native_tiles.ready(*states):
        if not torch.is_grad_enabled():
            return tree_in_tiles(q, keys, values, prompt, pack, scale)
        if memory is None and all(group.visible is None for group in pack.groups):
            return computed(TileTreeAttention, q, k, v, pack, scale)
    if p:
        cells = torch.arange(p, device=q.device)
        joined.append(rectangle(q, k, v, AttentionGroup(1, p, cells, cells, cells), scale, window, softcap))
    pieces = [
        _group(q, keys, values, prompt, group, pack, key_positions, scale, window, softcap)
        for group in pack.groups
    ]
    if pieces:
        rows = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        joined.append(rows.index_select(0, pack.inverse))
    return joined[0] if len(joined) == 1 else torch.cat(joined)


def _group(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor],
    group: TreeGroup,
    pack: TreePack,
    key_positions: torch.Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Attention of one rectangle's real cells, ``[cells, heads, head_dim]``."""
    cells, heads = group.cells, k.shape[1]
    rows, real, dim = cells.rows, cells.positions, q.shape[-1]
    key_gather = cells.gather if group.key_gather is None else group.key_gather
    hidden = _hidden(group, pack.position_ids[0], key_positions, key_gather, window)
    far = None
    if window is not None:
        seen_from = pack.position_ids[0][real].view(-1, 1, 1)
        far = seen_from - torch.arange(len(prompt[0]), device=q.device) >= window
    queries = q.reshape(len(q), -1).index_select(0, real).view(len(real), heads, -1, dim)
    # Head-major order makes the product with the prompt one matrix product per key head, whatever the number of rows.
    mixed: torch.Tensor = _PromptAndOwn.apply(
        queries.transpose(0, 1).contiguous() * scale,
        prompt[0].transpose(0, 1),
        prompt[1].transpose(0, 1),
        _cells(k, key_gather, rows, group.keys),
        _cells(v, key_gather, rows, group.keys),
        hidden,
        far,
        softcap,
        None if len(real) == rows * cells.width else cells.scatter,
    )
    return mixed.transpose(0, 1).reshape(len(real), -1, v.shape[-1])


def _cells(t: torch.Tensor, gather: torch.Tensor, rows: int, keys: int) -> torch.Tensor:
    """``[heads * rows, keys, dim]``, head-major."""
    heads, dim = t.shape[1], t.shape[2]
    cells = t.reshape(len(t), -1).index_select(0, gather).view(rows, keys, heads, dim)
    return cells.permute(2, 0, 1, 3).reshape(heads * rows, keys, dim)


def _hidden(
    group: TreeGroup,
    query_positions: torch.Tensor,
    key_positions: torch.Tensor,
    key_gather: torch.Tensor,
    window: int | None,
) -> torch.Tensor:
    """Which of its row's keys a query must not see, broadcastable to ``[rows, width, 1, keys]``."""
    rows, width = group.cells.rows, group.cells.width
    if group.visible is None:
        ones = torch.ones(width, width, dtype=torch.bool, device=key_gather.device)
        hidden = ones.triu(1)[None, :, None]
    else:
        hidden = ~group.visible[:, :, None]
    if window is not None:
        seen_from = query_positions[group.cells.gather].view(rows, width, 1, 1)
        distance = seen_from - key_positions[key_gather].view(rows, 1, 1, group.keys)
        hidden = hidden | (distance >= window)
    return hidden


class _PromptAndOwn(torch.autograd.Function):
    """Softmax attention over ``[prompt keys | own keys]`` without ever repeating the prompt per row.

    The products with the prompt, which are nearly all of the work, are those of real queries only; each row's own small ones are of a
    rectangle of ``rows × width`` cells.

    q ``[heads, n, share, dim]``, already scaled; prompt k, v ``[heads, p, dim]``; own k, v ``[heads·rows, keys, dim]``; hidden
    ``[rows or 1, width, 1, keys]``; far ``[n, 1, p]`` or None; cells, int64 ``[n]``: the queries' places in the rectangle, or None where they
    fill it. Returns ``[heads, n, share, dim]``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        prompt_k: torch.Tensor,
        prompt_v: torch.Tensor,
        own_k: torch.Tensor,
        own_v: torch.Tensor,
        hidden: torch.Tensor,
        far: torch.Tensor | None,
        softcap: float | None,
        cells: torch.Tensor | None,
    ) -> torch.Tensor:
        heads, p, dim = prompt_k.shape
        batch, keys, width = own_k.shape[0], own_k.shape[1], hidden.shape[1]
        n, share = q.shape[1], q.shape[2]
        at = _Rectangle(heads, batch // heads * width, share, cells)
        to_prompt = torch.bmm(q.view(heads, n * share, dim), prompt_k.transpose(1, 2))
        to_own = torch.bmm(at.filled(q).view(batch, -1, dim), own_k.transpose(1, 2))
        capped = None
        if softcap is not None:
            for part in (to_prompt, to_own):
                part.div_(softcap).tanh_().mul_(softcap)
            capped = to_prompt, to_own.clone()
        to_own.view(heads, -1, width, share, keys).masked_fill_(hidden, float("-inf"))
        logits = q.new_empty(heads, n, share, p + keys)
        logits[..., :p] = to_prompt.view(heads, n, share, p)
        logits[..., p:] = at.real(to_own)
        if far is not None:
            logits[..., :p].masked_fill_(far, float("-inf"))
        weights = logits.softmax(-1)  # fp32 inside, whatever the dtype
        # Contiguous halves: a matrix product with a transposed slice would copy it element by element.
        shared = weights[..., :p].reshape(heads, n * share, p)
        own_weights = at.filled(weights[..., p:]).view(batch, -1, keys)
        out = torch.bmm(shared, prompt_v).view(heads, n, share, -1)
        out += at.real(torch.bmm(own_weights, own_v))
        ctx.save_for_backward(q, prompt_k, prompt_v, own_k, own_v, shared, own_weights, out)
        ctx.capped = capped
        ctx.softcap, ctx.at = softcap, at
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, prompt_k, prompt_v, own_k, own_v, shared, own_weights, out = ctx.saved_tensors
        heads = len(prompt_k)
        batch, at = own_k.shape[0], ctx.at
        grad = grad.contiguous()
        # Σ weight · ∂weight of a row is its output times the output's gradient.
        level = torch.linalg.vecdot(grad.float(), out.float())[..., None]
        own_grad, own_q, own_level = (at.filled(t).view(batch, -1, t.shape[-1]) for t in (grad, q, level))
        flat_q, flat_grad = (t.view(heads, -1, t.shape[-1]) for t in (q, grad))
        to_prompt = torch.bmm(flat_grad, prompt_v.transpose(1, 2)).sub_(level.view(heads, -1, 1)).mul_(shared)
        to_own = torch.bmm(own_grad, own_v.transpose(1, 2)).sub_(own_level).mul_(own_weights)
        if ctx.capped is not None:
            to_prompt, to_own = (
                part.mul_(1 - (capped / ctx.softcap) ** 2)
                for part, capped in zip((to_prompt, to_own), ctx.capped, strict=True)
            )
        grad_q = torch.bmm(to_prompt, prompt_k).view_as(q)
        grad_q += at.real(torch.bmm(to_own, own_k))
        return (
            grad_q,
            torch.bmm(to_prompt.transpose(1, 2), flat_q),
            torch.bmm(shared.transpose(1, 2), flat_grad),
            torch.bmm(to_own.transpose(1, 2), own_q),
            torch.bmm(own_weights.transpose(1, 2), own_grad),
            None,
            None,
            None,
            None,
        )


@dataclass(frozen=True)
class _Rectangle:
    """The way between real queries ``[heads, n, share, f]`` and a rectangle's cells ``[heads, size, share, f]``; ``cells`` as in `_PromptAndOwn`."""

    heads: int
    size: int
    share: int
    cells: torch.Tensor | None

    def filled(self, t: torch.Tensor) -> torch.Tensor:
        """The cells, 0 where no query is."""
        if self.cells is None:
            return t.contiguous()
        whole = t.new_zeros(self.heads, self.size, self.share, t.shape[-1])
        return whole.index_copy_(1, self.cells, t)

    def real(self, t: torch.Tensor) -> torch.Tensor:
        """The queries of cells that lie in any grouping of ``[heads, size, share, f]``."""
        whole = t.view(self.heads, self.size, self.share, t.shape[-1])
        return whole if self.cells is None else whole.index_select(1, self.cells)
