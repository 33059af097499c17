"""Attention over a `TreePack`: the shared prompt's keys are one dense rectangle for all rows, each row's own keys a small one.

One softmax runs over both, so the result is the attention of ``prompt + row`` computed row by row, and gradients flow into the
prompt from every row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

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
    if p:
        cells = torch.arange(p, device=q.device)
        joined.append(rectangle(q, k, v, AttentionGroup(1, p, cells, cells, cells), scale, window, softcap))
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
    rows, width, heads = group.cells.rows, group.cells.width, k.shape[1]
    query_gather = group.cells.gather
    key_gather = query_gather if group.key_gather is None else group.key_gather
    queries = q.reshape(len(q), -1).index_select(0, query_gather).view(rows, width, heads, -1, q.shape[-1])
    share = queries.shape[3]
    hidden = _hidden(group, pack.position_ids[0], key_positions, key_gather, window)
    far = None
    if window is not None:
        seen_from = pack.position_ids[0][query_gather].view(rows, 1, width, 1)
        far = seen_from - torch.arange(len(prompt[0]), device=q.device) >= window
    # Head-major order makes the product with the prompt one matrix product per key head, whatever the number of rows.
    mixed: torch.Tensor = _PromptAndOwn.apply(
        queries.permute(2, 0, 3, 1, 4).reshape(heads, rows * share * width, -1).contiguous() * scale,
        prompt[0].transpose(0, 1),
        prompt[1].transpose(0, 1),
        _cells(k, key_gather, rows, group.keys),
        _cells(v, key_gather, rows, group.keys),
        hidden,
        far,
        softcap,
    )
    mixed = mixed.view(heads, rows, share, width, -1).permute(1, 3, 0, 2, 4)
    return mixed.reshape(rows * width, heads * share, -1).index_select(0, group.cells.scatter)


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
    """Which of its row's keys a query must not see, broadcastable to ``[rows, 1, width, keys]``."""
    rows, width = group.cells.rows, group.cells.width
    if group.visible is None:
        ones = torch.ones(width, width, dtype=torch.bool, device=key_gather.device)
        hidden = ones.triu(1)[None, None]
    else:
        hidden = ~group.visible[:, None]
    if window is not None:
        seen_from = query_positions[group.cells.gather].view(rows, 1, width, 1)
        distance = seen_from - key_positions[key_gather].view(rows, 1, 1, group.keys)
        hidden = hidden | (distance >= window)
    return hidden


class _PromptAndOwn(torch.autograd.Function):
    """Softmax attention over ``[prompt keys | own keys]`` without ever repeating the prompt per row.

    q ``[heads, rows·share·width, dim]``, already scaled; prompt k, v ``[heads, p, dim]``; own k, v ``[heads·rows, keys, dim]``;
    hidden ``[rows or 1, 1, width, keys]``; far ``[rows, 1, width, p]`` or None. Returns ``[heads, rows·share·width, dim]``.
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
    ) -> torch.Tensor:
        heads, p, dim = prompt_k.shape
        batch, keys = own_k.shape[0], own_k.shape[1]
        width = hidden.shape[2]
        logits = q.new_empty(heads, q.shape[1], p + keys)
        logits[..., :p] = torch.bmm(q, prompt_k.transpose(1, 2))
        own = torch.bmm(q.view(batch, -1, dim), own_k.transpose(1, 2))
        logits[..., p:] = own.view(heads, -1, keys)
        if softcap is not None:
            logits = torch.tanh(logits.div_(softcap)).mul_(softcap)
        capped = logits.clone() if softcap is not None else None
        cells = logits.view(heads, batch // heads, -1, width, p + keys)
        cells[..., p:].masked_fill_(hidden, float("-inf"))
        if far is not None:
            cells[..., :p].masked_fill_(far, float("-inf"))
        weights = logits.softmax(-1)  # fp32 inside, whatever the dtype
        # Contiguous halves: a matrix product with a transposed slice would copy it element by element.
        shared, own_weights = weights[..., :p].contiguous(), weights[..., p:].reshape(batch, -1, keys)
        out = torch.bmm(shared, prompt_v)
        out += torch.bmm(own_weights, own_v).view_as(out)
        ctx.save_for_backward(q, prompt_k, prompt_v, own_k, own_v, shared, own_weights, out, capped)
        ctx.softcap = softcap
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, prompt_k, prompt_v, own_k, own_v, shared, own_weights, out, capped = ctx.saved_tensors
        p, batch = prompt_k.shape[1], own_k.shape[0]
        grad = grad.contiguous()
        own_grad, own_q = grad.view(batch, -1, grad.shape[-1]), q.view(batch, -1, q.shape[-1])
        # Σ weight · ∂weight of a row is its output times the output's gradient.
        level = torch.linalg.vecdot(grad.float(), out.float())[..., None]
        to_prompt = torch.bmm(grad, prompt_v.transpose(1, 2)).sub_(level).mul_(shared)
        to_own = torch.bmm(own_grad, own_v.transpose(1, 2)).sub_(level.view(batch, -1, 1)).mul_(own_weights)
        if capped is not None:
            slope = 1 - (capped / ctx.softcap) ** 2
            to_prompt, to_own = to_prompt * slope[..., :p], to_own * slope[..., p:].reshape(to_own.shape)
        grad_q = torch.bmm(to_prompt, prompt_k)
        grad_q += torch.bmm(to_own, own_k).view_as(grad_q)
        return (
            grad_q,
            torch.bmm(to_prompt.transpose(1, 2), q),
            torch.bmm(shared.transpose(1, 2), grad),
            torch.bmm(to_own.transpose(1, 2), own_q),
            torch.bmm(own_weights.transpose(1, 2), own_grad),
            None,
            None,
            None,
        )
