"""Weights in 8-bit integers, for answering on a CPU whose instructions multiply such (VNNI): twice the products of bf16 in the same time.

Every output channel of a weight has a scale of its own (symmetric, no zero point). Activations are rounded as they come, with one scale per
token, so that no text's answer depends on the texts beside it. Sums are exact in 32 bits.
"""

from __future__ import annotations

import types
import weakref
from typing import Any

import torch
from torch import nn

from sortal.backbone import native
from sortal.backbone.merging import call_directly
from sortal.backbone.packed_weights import plain_linears, unpacked
from sortal.errors import ConfigError

_LARGEST = 127
_ZERO = 128  # the library's integers for activations are unsigned: 128 stands for 0


def quantize_weights(model: nn.Module) -> int:
    """Replace the weights of the projections in the decoder's layers, which `freeze` has seen, by 8-bit ones; returns how many were.

    Raises:
        ConfigError: this machine does not multiply 8-bit integers fast, or the weights stay as they are: 4-bit, or beside adapters.
    """
    if next(model.parameters()).device.type != "cpu" or not torch.cpu._is_vnni_supported():
        raise ConfigError(
            "weights int8 needs a CPU with VNNI instructions, and this model is not on one",
            "leave the weights as they were saved",
        )
    activations, count = _Activations(), 0
    for layer in plain_linears(model):
        weight = unpacked(layer.weight.data).float()
        scale = weight.abs().amax(1).clamp_min(1e-30) / _LARGEST
        rounded = (weight / scale[:, None]).round_().to(torch.int8)
        layer.weight = nn.Parameter(torch.ops.onednn.qlinear_prepack(rounded, None), requires_grad=False)
        layer._sortal_int8 = scale, torch.zeros(len(scale), dtype=torch.int64), activations
        layer.forward = types.MethodType(_forward, layer)
        count += 1
    if not count:
        raise ConfigError(
            "weights int8 is for 16- and 32-bit weights, and this model has no others",
            "leave the weights as they were saved",
        )
    call_directly(model)
    return count


class _Activations:
    """The last activations that were rounded: projections that read the same ones round them once."""

    def __init__(self) -> None:
        self._last: tuple[Any, torch.Tensor, torch.Tensor] | None = None

    def rounded(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 ``[tokens, in]`` and the scales ``[tokens, 1]`` in ``x``'s dtype."""
        last = self._last  # read once: another thread may put its own there
        if last is None or last[0]() is not x:
            self._last = last = (weakref.ref(x), *_rounded(x))
        return last[1], last[2]


def _rounded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if native.ready(x):
        return native.to_bytes(x.view(-1, x.shape[-1]))
    rows = x.reshape(-1, x.shape[-1]).to(torch.float32, copy=True)
    highest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))
    # A little larger, so that no rounding of the scale itself makes a value overflow; then exact in the products' dtype.
    scale = highest.mul_((1 + 2**-8) / _LARGEST).clamp_min_(1e-30).to(x.dtype)
    rows.mul_(scale.float().reciprocal())
    # From signed to unsigned around 128 is one bit.
    return rows.round_().to(torch.int8).view(torch.uint8).bitwise_xor_(_ZERO), scale


def _forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    scale, zero, activations = self._sortal_int8
    rows, row_scale = activations.rounded(x)
    out = torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, _ZERO, self.weight, scale, zero, None, 1.0, 0, x.dtype, "none", [], ""
    )
    out = native.scale_rows_(out, row_scale) if native.ready(out, row_scale) else out.mul_(row_scale)
    if self.bias is not None:
        out += self.bias
    return out.view(*x.shape[:-1], -1)  # type: ignore[no-any-return]
