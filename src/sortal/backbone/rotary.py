"""Rotary positions (arXiv 2104.09864) in six passes for queries and as many for keys, where the plain formula takes fourteen.

``x · cos + rotate(x) · sin`` with ``rotate(x₁, x₂) = (−x₂, x₁)`` is ``x · cos + roll(x) · s`` when the sign goes into s, and its gradient has
the same form with s rolled. transformers' attention calls the formula by a name of its module, so a layer whose formula it is gets a
forward of its own that calls this one by that name; the module, and every other model in the process, stays as it is.
"""

from __future__ import annotations

import inspect
import types
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sortal.backbone import native

_NAME = "apply_rotary_pos_emb"


class _Rotary(torch.autograd.Function):
    """x ``[1, heads, tokens, head_dim]``; cos, signed and, for backward, rolled ``[1, tokens, head_dim]``."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, cos: torch.Tensor, signed: torch.Tensor, rolled: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(cos, rolled)
        return _turned(x, cos, signed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, rolled = ctx.saved_tensors
        return _turned(grad, cos, rolled), None, None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    rows = x.transpose(1, 2)  # heads of a token side by side, as the projection left them: nothing is copied
    if len(rows) == len(cos) == 1 and native.ready(rows, cos, signed):
        return native.rotate(rows[0], cos[0], signed[0])[None].transpose(1, 2)
    out = torch.addcmul(rows * cos.unsqueeze(2), _rolled(rows), signed.unsqueeze(2))
    return out.transpose(1, 2)


def _rolled(x: torch.Tensor) -> torch.Tensor:
    return torch.roll(x, x.shape[-1] // 2, -1)


def rotary(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys ``[batch, heads, tokens, head_dim]`` turned by their positions; cos, sin ``[batch, tokens, head_dim]`` have no gradient."""
    assert unsqueeze_dim == 1
    signed, rolled = signed_sines(sin)
    if not torch.is_grad_enabled():
        return _turned(q, cos, signed), _turned(k, cos, signed)
    turned: Any = _Rotary.apply
    return turned(q, cos, signed, rolled), turned(k, cos, signed, rolled)


def signed_sines(sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``s`` of the formula and ``s`` rolled, which its gradient takes; made once for all layers of a forward, which get the same tensor."""
    sines: tuple[torch.Tensor, torch.Tensor] | None = getattr(sin, "_sortal_sines", None)
    if sines is None:
        first, second = sin.chunk(2, -1)
        sines = torch.cat((-first, second), -1), torch.cat((second, -first), -1)
        sin._sortal_sines = sines  # type: ignore[attr-defined]
    return sines


def is_rotary_attention(module: nn.Module) -> bool:
    """An attention layer that calls the formula by that name, checked on numbers."""
    return type(module).__name__.endswith("Attention") and _calls_formula(type(module).forward)


@cache
def _calls_formula(forward: Any) -> bool:
    formula = getattr(forward, "__globals__", {}).get(_NAME)
    if formula is None or hasattr(forward, "__wrapped__") or _NAME not in forward.__code__.co_names:
        return False
    if list(inspect.signature(formula).parameters) != list(inspect.signature(rotary).parameters):
        return False
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 2, 3, 8), (1, 1, 3, 8), (1, 3, 8), (1, 3, 8))
    q, k, cos, sin = (torch.randn(shape, generator=generator, device="cpu") for shape in shapes)
    with torch.no_grad():
        pairs = zip(formula(q, k, cos, sin), rotary(q, k, cos, sin), strict=True)
        if not all(a.shape == b.shape and torch.allclose(a, b, atol=1e-5) for a, b in pairs):
            return False
        try:
            formula(q, k, cos[..., :4], sin[..., :4])
        except RuntimeError:
            return True
        return False  # a formula that turns a part of each head, where it is given as much


def with_rotary(module: nn.Module) -> Any:
    """The bound forward of an attention layer that passed `is_rotary_attention`, with `rotary` in the formula's place."""
    plain = type(module).forward
    names = {**plain.__globals__, _NAME: rotary}
    mine = types.FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__, plain.__closure__)
    mine.__kwdefaults__ = plain.__kwdefaults__
    return types.MethodType(mine, module)
