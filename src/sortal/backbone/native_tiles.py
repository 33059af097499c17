"""Attention on a processor with a tile unit (AMX), forward and backward in one kernel each: `native_tiles.h`, part of `native`'s library.

Two of them: inside texts side by side, and of rows below a prompt that all of them see. Logits and weights stay in registers and in what a core keeps, so
nothing but queries, keys and values is kept for backward. Tensors are bfloat16 on the CPU and contiguous (`ready`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sortal.backbone import native

if TYPE_CHECKING:
    from sortal.backbone.trees import TreeGroup


class Texts(NamedTuple):
    """Texts side by side, and what a token sees of its own.

    starts: int32 ``[texts + 1]``, where every text starts and the last ends; none is longer than ``longest``.
    scale: of the logits. window: most recent tokens that are seen, None for all; where not ``causal``, as many ahead.
    before: contiguous keys and values ``[p, kv_heads, dim]`` that stand before every text, in a forward without backward.
    """

    starts: torch.Tensor
    longest: int
    scale: float
    window: int | None
    causal: bool
    before: tuple[torch.Tensor, torch.Tensor] | None = None


def ready(*tensors: torch.Tensor) -> bool:
    """Whether `attention` may be given these queries, keys and values: `native.ready`, a tile unit, and heads of a size that fills tiles."""
    dims = {t.shape[-1] for t in tensors}
    return native.ready(*tensors) and len(dims) == 1 and dims.pop() % 32 == 0 and native.library().has_tiles


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, texts: Texts, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention inside texts: q ``[tokens, heads, dim]``, k, v ``[tokens, kv_heads, dim]`` → q's shape, in ``out`` where it is given.

    Raises:
        MemoryError: there is none for what a core keeps.
    """
    out = torch.empty_like(q) if out is None else out
    if _attention(native.library(), q, k, v, texts, out):
        raise MemoryError
    return out


def _attention(
    library: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, texts: Texts, out: torch.Tensor
) -> int:
    p, before = (len(texts.before[0]), texts.before) if texts.before else (0, (k, v))
    pointers = [t.data_ptr() for t in (q, k, v, *before)]
    failed: int = library.tile_attention(*pointers, p, *_sizes(q, k, texts), out.data_ptr())
    return failed


def attention_backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, texts: Texts
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients to q, k and v; raises as `attention`."""
    found = (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v))
    pointers = [t.data_ptr() for t in (grad, q, k, v)]
    if native.library().tile_attention_backward(
        *pointers, *_sizes(q, k, texts), *(t.data_ptr() for t in found)
    ):
        raise MemoryError
    return found


def tree_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor],
    group: TreeGroup,
    scale: float,
    out: torch.Tensor,
) -> None:
    """Attention of a group's rows below ``prompt``, keys and values ``[p, kv_heads, dim]``, into their tokens of ``out``; no gradients.

    Args:
        q: ``[tokens, heads, dim]``; k, v: ``[places, kv_heads, dim]``, to which ``group.key_gather`` points, or the group's cells.

    Raises:
        MemoryError: as `attention`.
    """
    cells, visible = group.cells, group.visible
    places = cells.gather if group.key_gather is None else group.key_gather
    for indices in (cells.gather, group.lengths, places):
        assert indices.dtype == torch.int64
        assert indices.is_contiguous()
    assert visible is None or visible.is_contiguous()
    failed = native.library().tile_tree_attention(
        *(t.data_ptr() for t in (q, k, v, *prompt)),
        len(prompt[0]),
        *(cells.gather.data_ptr(), group.lengths.data_ptr(), cells.rows, cells.width),
        *(places.data_ptr(), None if visible is None else visible.data_ptr(), group.keys),
        *(q.shape[1], k.shape[1], q.shape[2], scale, out.data_ptr()),
    )
    if failed:
        raise MemoryError


def tree_attention_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor],
    group: TreeGroup,
    scale: float,
    to: Sequence[torch.Tensor],
    to_prompt: Sequence[torch.Tensor],
) -> None:
    """Gradients to q, k and v at the tokens of a group whose rows are chains, into ``to``; those to the prompt's keys and values, in fp32, are added.

    Raises:
        MemoryError: as `attention`.
    """
    assert group.visible is None
    cells, gradients = group.cells, (*to, *to_prompt)
    failed = native.library().tile_tree_attention_backward(
        *(t.data_ptr() for t in (grad, q, k, v, *prompt)),
        len(prompt[0]),
        *(cells.gather.data_ptr(), group.lengths.data_ptr(), cells.rows, cells.width),
        *(q.shape[1], k.shape[1], q.shape[2], scale),
        *(t.data_ptr() for t in gradients),
    )
    if failed:
        raise MemoryError


def _sizes(q: torch.Tensor, k: torch.Tensor, texts: Texts) -> tuple[Any, ...]:
    starts, longest, scale, window, causal, _ = texts
    assert starts.dtype == torch.int32
    assert starts.is_contiguous()
    count = (starts.data_ptr(), len(starts) - 1, longest)
    return *count, q.shape[1], k.shape[1], q.shape[2], window or native.NO_WINDOW, causal, scale


@torch.inference_mode(False)
@torch.enable_grad()
def tried(library: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What ``library`` computes for few tokens and what torch does: attention of one text of more than a block, behind others, as a row below a prompt, and gradients."""
    tokens, dim = 40, 32
    q, k, v, grad = torch.arange(4 * tokens * dim).mul(0.7).sin().bfloat16().view(4, tokens, 1, dim)
    starts = torch.tensor([0, tokens], dtype=torch.int32)
    texts = Texts(starts, tokens, 0.5, None, True)
    sizes = _sizes(q, k, texts)
    found = [torch.empty_like(q) for _ in range(4)]
    _attention(library, q, k, v, texts, found[0])
    p = 8  # the same with the first keys before the text
    behind = texts._replace(
        starts=starts - starts.new_tensor([0, p]), longest=tokens - p, before=(k[:p], v[:p])
    )
    found_behind = torch.empty_like(q[p:])
    _attention(library, q[p:], k[p:], v[p:], behind, found_behind)
    # ... and as a row below a prompt, whose gradients are only those of the row's queries
    cells, lengths = torch.arange(p, tokens), torch.tensor([tokens - p])
    found_row, row_grad, shared = torch.empty_like(q), grad.clone(), torch.zeros(2, p, 1, dim)
    row_grad[:p] = 0
    states = [t.data_ptr() for t in (q, k, v, k, v)]
    row = (p, cells.data_ptr(), lengths.data_ptr(), 1, tokens - p)
    library.tile_tree_attention(
        *states, *row, cells.data_ptr(), None, tokens - p, 1, 1, dim, 0.5, found_row.data_ptr()
    )
    to_row = [torch.empty_like(q) for _ in range(3)]
    library.tile_tree_attention_backward(
        row_grad.data_ptr(), *states, *row, 1, 1, dim, 0.5, *(t.data_ptr() for t in (*to_row, *shared))
    )
    gradients = [t.data_ptr() for t in found[1:]]
    library.tile_attention_backward(*(t.data_ptr() for t in (grad, q, k, v)), *sizes, *gradients)
    wide = [t.float().transpose(0, 1).requires_grad_() for t in (q, k, v)]
    logits = 0.5 * wide[0] @ wide[1].transpose(1, 2)
    hidden = torch.ones(tokens, tokens).triu(1).bool()
    out = logits.masked_fill(hidden, float("-inf")).softmax(-1) @ wide[2]
    exact = [out.detach(), *torch.autograd.grad(out, wide, grad.float().transpose(0, 1), retain_graph=True)]
    of_row = torch.autograd.grad(out, wide, row_grad.float().transpose(0, 1))
    pairs = [
        *zip(found, exact, strict=True),
        (found_behind, exact[0][:, p:]),
        (found_row[p:], exact[0][:, p:]),
    ]
    pairs += [(ours[p:], theirs[:, p:]) for ours, theirs in zip(to_row, of_row, strict=True)]
    pairs += [(ours, theirs[:, :p]) for ours, theirs in zip(shared, of_row[1:], strict=True)]
    return [(ours.transpose(0, 1), theirs) for ours, theirs in pairs]
