"""Embeddings that are trained on a CPU: gradients of the rows that were read, added where they belong.

torch makes a table of zeros as large as the embedding's in every backward, fills a few of its rows and adds it to the gradient: with
30,522 rows of 384 and texts of 20 tokens the zeros alone took a tenth of a step (profiled once).
"""

from __future__ import annotations

import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

_ROWS = 4096  # of a smaller table torch's way costs nothing


def add_rows(model: nn.Module) -> None:
    """Let the large embeddings of ``model`` that are trained on a CPU add to their gradient row by row; the sums are torch's, their order is not."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and _fits(module):
            module.forward = types.MethodType(_forward, module)  # type: ignore[method-assign]


def _fits(embedding: nn.Embedding) -> bool:
    weight = embedding.weight
    plain = embedding.max_norm is None and not embedding.sparse and not embedding.scale_grad_by_freq
    return plain and weight.requires_grad and weight.device.type == "cpu" and len(weight) > _ROWS


def _forward(self: nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
    if not (torch.is_grad_enabled() and self.weight.requires_grad):
        return F.embedding(ids, self.weight)
    found: torch.Tensor = _Rows.apply(self.weight, ids, self.padding_idx)  # type: ignore[no-untyped-call]
    return found


class _Rows(torch.autograd.Function):
    """Rows of a table ``[rows, width]`` at ``ids``; backward adds to the table's ``grad`` itself."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, padding: int | None) -> torch.Tensor:
        """``[*ids, width]``."""
        ctx.save_for_backward(ids)
        ctx.weight, ctx.padding = weight, padding
        return F.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, None, None]:
        """Nothing to return: the gradient is in its place."""
        (ids,) = ctx.saved_tensors
        ids, grad = ids.flatten(), grad.flatten(0, -2)
        if ctx.padding is not None:
            read = ids != ctx.padding
            ids, grad = ids[read], grad[read]
        weight = ctx.weight
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, ids, grad.to(weight.dtype))
        return None, None, None
