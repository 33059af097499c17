"""Fused forward passes for the parts of a decoder that cost most beside the matrix products.

peft keeps the LoRA parameters and their file format; only the *computation* of its linear layers is replaced. The same
holds for RMSNorm and the gated MLP: same parameters, same mathematics, fewer passes over memory and fewer saved tensors.
Each replacement has a parity test of outputs and gradients against the module it replaces.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.activations import ACT2FN

from sortal.backbone import native


class _LoraLinear(torch.autograd.Function):
    """``x Wᵀ + b + scale · (x Aᵀ) Bᵀ`` with W frozen; x ``[..., in]``, A ``[r, in]``, B ``[out, r]`` (fp32 or x's dtype).

    W may be a bitsandbytes 4-bit parameter: it is de-quantised in forward and again in backward, never kept.
    ``narrow``: A and B in x's dtype, where they are at hand (`narrow_adapters`); gradients are those of a and b all the same.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        narrow: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        # Adapters are kept in fp32 for the optimiser; the products run in the activations' dtype.
        a16, b16 = (a.to(x.dtype), b.to(x.dtype)) if narrow is None else narrow
        low = _scaled(rows, a16.t(), scale)
        out = F.linear(rows, dense(weight, x.dtype), bias)
        out.addmm_(low, b16.t())
        ctx.save_for_backward(rows, low, a16, b16)
        ctx.weight = weight  # frozen, and a 4-bit parameter would lose its quant_state as a saved tensor
        ctx.scale, ctx.shape, ctx.adapter_dtype = scale, x.shape, a.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, a16, b16 = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_low = _scaled(grad, b16, ctx.scale)
        grad_b = _product(grad.t(), low, ctx.adapter_dtype)
        grad_a = _product(grad_low.t(), rows, ctx.adapter_dtype)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ dense(ctx.weight, grad.dtype)
            grad_x.addmm_(grad_low, a16)
            grad_x = grad_x.view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None, None


def _scaled(a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """``scale · a b``, scaled inside the product."""
    return a.new_empty(a.shape[0], b.shape[1]).addmm_(a, b, beta=0, alpha=scale)


def _product(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``a b`` in ``dtype``; on CUDA it is accumulated and written there without a pass of its own."""
    if a.is_cuda and a.dtype != dtype:
        return torch.mm(a, b, out_dtype=dtype)
    return (a @ b).to(dtype)


class _RmsNorm(torch.autograd.Function):
    """``x · rsqrt(mean(x²) + eps) · weight`` with a frozen weight; statistics in fp32, x ``[..., hidden]``."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, plus_one: bool) -> torch.Tensor:
        ctx.plus_one, ctx.one_kernel = plus_one, x.is_cuda and x.dtype == weight.dtype and not plus_one
        if ctx.one_kernel:
            out, inverse = torch.ops.aten._fused_rms_norm(x, weight.shape, weight, eps)
            ctx.save_for_backward(x, weight, inverse)
            return out  # type: ignore[no-any-return]
        ctx.native = native.ready(x, weight)
        if ctx.native:
            out, inverse = native.rms_norm(x, weight, eps, plus_one)
            ctx.save_for_backward(x, weight, inverse)
            return out
        wide = x.float()
        inverse = torch.rsqrt(
            torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps)
        )
        ctx.save_for_backward(x, weight, inverse)
        if plus_one:  # Gemma: (1 + weight), multiplied in fp32
            return (wide * inverse).mul_(weight.float() + 1.0).to(x.dtype)
        return (wide * inverse).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        if ctx.one_kernel:
            found, _ = torch.ops.aten._fused_rms_norm_backward(
                grad.contiguous(), x, weight.shape, inverse, weight, [True, False]
            )
            return found, None, None, None
        if ctx.native:
            found = native.rms_norm_backward(grad.contiguous(), x, weight, inverse, ctx.plus_one)
            return found, None, None, None
        # Copies even in fp32: a post-norm's incoming gradient is also the residual's, and x belongs to the forward.
        scaled = grad.to(torch.float32, copy=True).mul_(
            weight.float() + 1.0 if ctx.plus_one else weight.float()
        )
        wide = x.to(torch.float32, copy=True)
        dot = (scaled * wide).mean(-1, keepdim=True).mul_(inverse.pow(3))
        return scaled.mul_(inverse).sub_(wide.mul_(dot)).to(x.dtype), None, None, None


class _SiluMul(torch.autograd.Function):
    """``silu(gate) · up`` saving only its two inputs."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        if native.ready(gate, up):
            return native.silu_mul(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        if native.ready(gate, up, grad := grad.contiguous()):
            return native.silu_mul_backward(grad, gate, up)
        grad_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return grad_gate, F.silu(gate).mul_(grad)


class _NoContext:
    """What a forward gets to keep tensors in when nothing will ask for a gradient."""

    def save_for_backward(self, *tensors: torch.Tensor) -> None:
        """Keep nothing."""


def computed(function: Any, *arguments: Any) -> torch.Tensor:
    """``function.apply(…)``; without gradients its forward alone, whose bookkeeping costs a twelfth of a short text's time."""
    if torch.is_grad_enabled():
        return function.apply(*arguments)  # type: ignore[no-any-return]
    return function.forward(_NoContext(), *arguments)  # type: ignore[no-any-return]


def dense(weight: Any, dtype: torch.dtype) -> torch.Tensor:
    """A frozen weight ``[out, in]`` as it is multiplied: gathered if it is sharded, de-quantised if it is stored in 4 bits."""
    shard = getattr(weight, "sortal_shard", None)
    stored: torch.Tensor = weight.data if shard is None else shard.gather(weight.data)
    state = getattr(weight, "quant_state" if shard is None else "sortal_quant_state", None)
    if state is None:
        return stored
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(stored, state).to(dtype)  # type: ignore[no-any-return]


def lora_forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Forward of a peft LoRA linear layer; bound to the module by `sortal.backbone.lora.fuse`."""
    if self.merged and not (self.disable_adapters or kwargs or args):
        layer = self.get_base_layer()
        return F.linear(x, dense(layer.weight, x.dtype), layer.bias)
    if self.disable_adapters or self.merged or kwargs or args:
        return self._sortal_plain_forward(x, *args, **kwargs)  # type: ignore[no-any-return]
    name = self.active_adapters[0]
    base = self.get_base_layer()
    a, b = self.lora_A[name].weight, self.lora_B[name].weight
    narrow = getattr(self, "_sortal_narrow", None)
    if narrow is not None and (narrow[0].dtype, narrow[0].device) != (x.dtype, x.device):
        narrow = None  # of a frozen model that was moved since
    return computed(_LoraLinear, x, base.weight, base.bias, a, b, self.scaling[name], narrow)


def narrow_adapters(layers: list[Any], dtype: torch.dtype) -> None:
    """Give fused LoRA layers their adapters in ``dtype``, all in one pass: one by one they are two kernels per layer."""
    pairs = [
        (layer.lora_A[name].weight, layer.lora_B[name].weight)
        for layer in layers
        for name in layer.active_adapters[:1]
    ]
    wide = [weight.detach() for pair in pairs for weight in pair]
    flat = torch.empty(sum(weight.numel() for weight in wide), dtype=dtype, device=wide[0].device)
    views = [
        part.view(weight.shape)
        for part, weight in zip(flat.split([weight.numel() for weight in wide]), wide, strict=True)
    ]
    torch._foreach_copy_(views, wide)
    for number, layer in enumerate(layers):
        layer._sortal_narrow = (views[2 * number], views[2 * number + 1])


def is_rms_norm(module: Any) -> bool:
    """A transformers RMSNorm whose formula is one of the two that `_RmsNorm` computes, checked on numbers."""
    if not type(module).__name__.endswith("RMSNorm") or getattr(module, "weight", None) is None:
        return False
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(eps, float) or module.weight.requires_grad:
        return False
    hidden = module.weight.shape[0]
    probe = (
        torch.linspace(-2.0, 3.0, 2 * hidden, device=module.weight.device)
        .view(2, hidden)
        .to(module.weight.dtype)
    )
    with torch.no_grad():
        expected = module(probe).float()
        computed = {p: _RmsNorm.apply(probe, module.weight, eps, p).float() for p in (False, True)}
    # The nearer one: with weights near 100 the two formulas differ by no more than bf16 rounding may.
    plus_one = min(computed, key=lambda p: float((computed[p] - expected).norm()))
    if not torch.allclose(expected, computed[plus_one], rtol=1e-2, atol=1e-4):
        return False
    module._sortal_eps, module._sortal_plus_one = eps, plus_one
    return True


def rms_forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Forward of an RMSNorm that passed `is_rms_norm`."""
    return computed(_RmsNorm, x, self.weight, self._sortal_eps, self._sortal_plus_one)


def is_silu_mlp(module: nn.Module) -> bool:
    """A gated MLP ``down(silu(gate(x)) · up(x))`` of a known family."""
    known = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "SmolLM3MLP", "Olmo2MLP"}
    return type(module).__name__ in known and isinstance(
        getattr(module, "act_fn", None), nn.SiLU | type(ACT2FN["silu"])
    )


def mlp_forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Forward of a module that passed `is_silu_mlp`."""
    return self.down_proj(computed(_SiluMul, self.gate_proj(x), self.up_proj(x)))  # type: ignore[no-any-return]
