"""Plain matmul attention of rows of similar length, padded to a rectangle."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

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
    before: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Plain matmul attention of one group; query heads that share a key head share its matrix product.

    ``before``: keys and values ``[p, kv_heads, head_dim]`` that stand before every row, only with ``causal``.

    On a CPU a long row's queries go block by block, each with the keys it may see: half of the area is never computed, and what a block computes stays in
    the cache. Measured on CPU in bf16, forward and backward: this beats SDPA at all lengths (`python -m benchmarks.attention`).
    """
    rows, width = group.rows, group.width
    kv_heads, dim = k.shape[1], k.shape[2]
    share = q.shape[1] // kv_heads

    alone = rows == 1 and width == len(q)  # one text is a rectangle as it is

    def cells(t: torch.Tensor) -> torch.Tensor:
        flat = t.reshape(t.shape[0], -1)
        return (flat if alone else flat.index_select(0, group.gather)).view(rows, width, kv_heads, -1, dim)

    # [rows * kv_heads, share, width, dim] and [rows * kv_heads, width, dim]
    queries = cells(q).permute(0, 2, 3, 1, 4).reshape(rows * kv_heads, share, width, dim)
    keys = cells(k).permute(0, 2, 3, 1, 4).reshape(rows * kv_heads, width, dim)
    values = cells(v).permute(0, 2, 3, 1, 4).reshape(rows * kv_heads, width, -1)
    p = 0
    if before is not None:
        p = len(before[0])
        keys, values = (
            torch.cat([in_every_row(own, rows), t], 1) for own, t in zip(before, (keys, values), strict=True)
        )
    bias = _causal_bias(width, window, q, p) if causal else _two_sided_bias(group, window, q, kv_heads)
    pieces = []
    for start, end, first, last in blocks(
        width, width if q.is_cuda else block_size(width), window, causal, p
    ):
        block = queries[:, :, start:end].reshape(rows * kv_heads, share * (end - start), dim)
        logits = torch.bmm(block, keys[:, first:last].transpose(1, 2)).mul_(scale)
        logits = logits.view(rows * kv_heads, share, end - start, last - first)
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        weights = (logits + bias[..., start:end, first:last]).softmax(-1, dtype=torch.float32).to(v.dtype)
        mixed = torch.bmm(
            weights.view(rows * kv_heads, share * (end - start), last - first), values[:, first:last]
        )
        pieces.append(mixed.view(rows, kv_heads, share, end - start, -1))
    joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=3)
    joined = joined.permute(0, 3, 1, 2, 4).reshape(rows * width, q.shape[1], -1)
    return joined if alone else joined.index_select(0, group.scatter)


def block_size(width: int) -> int:
    """Queries of one block; measured: shorter rows gain nothing from blocks, and longer ones from larger blocks."""
    return 64 if width <= 256 else 128


def in_every_row(before: torch.Tensor, rows: int) -> torch.Tensor:
    """``[p, kv_heads, head_dim]`` → ``[rows * kv_heads, p, head_dim]``."""
    return before.transpose(0, 1).expand(rows, -1, -1, -1).flatten(0, 1)


def blocks(
    width: int, size: int, window: int | None, causal: bool, p: int = 0
) -> Iterator[tuple[int, int, int, int]]:
    """``(start, end, first, last)``: queries ``start:end`` see keys in ``first:last`` only, of which ``p`` stand before the first query."""
    for start in range(0, width, size):
        end = min(start + size, width)
        first, last = 0, p + end if causal else width
        if window is not None:
            first, last = max(0, p + start - window + 1), min(last, p + end + window - 1)
        yield start, end, first, last


def _causal_bias(width: int, window: int | None, like: torch.Tensor, p: int) -> torch.Tensor:
    """``[width, p + width]``: 0 where a query sees a key, −inf elsewhere."""
    if torch.is_inference_mode_enabled() and width <= _KEPT_WIDTH:  # all layers take the same one
        return _kept_bias(width, window, like.dtype, like.device, p)
    return _bias(width, window, like.dtype, like.device, p)


def _bias(width: int, window: int | None, dtype: torch.dtype, device: torch.device, p: int) -> torch.Tensor:
    # Right padding needs no mask of its own: a real token only looks left, and padding cells are dropped in the end.
    ones = torch.ones(width, p + width, dtype=torch.bool, device=device)
    hidden = ones.triu(p + 1)
    if window is not None and window < p + width:
        hidden |= ones.tril(p - window)
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))


_KEPT_WIDTH = 512
_kept_bias = lru_cache(maxsize=16)(_bias)


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
