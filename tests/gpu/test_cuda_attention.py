from __future__ import annotations

import pytest
import torch
from torch import nn

from sortal.backbone import attention
from sortal.backbone.packing import pack

pytestmark = pytest.mark.gpu
SIZES = [5, 130, 1, 64, 33]


def _inputs(heads, dim):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(1, h, sum(SIZES), dim, generator=generator) for h in (heads[0], heads[1], heads[1])]
    return [t.to("cuda", torch.bfloat16).requires_grad_() for t in made]


@pytest.mark.parametrize("window", [None, 1, 16, 1000])
@pytest.mark.parametrize("heads", [(8, 8), (8, 2)])
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("causal", [True, False])
def test_the_varlen_kernel_equals_the_rectangles(monkeypatch, causal, dim, heads, window):
    """F10 on CUDA, outputs and gradients, within bf16 rounding."""
    packed = pack([[0] * n for n in SIZES], causal=causal).to("cuda")
    direction, found = None, []
    for fast in (True, False):
        monkeypatch.setattr(attention, "_can_use_varlen", lambda q, fast=fast: fast)
        inputs = _inputs(heads, dim)
        out, _ = attention.packed_attention(
            nn.Module(), *inputs, None, sliding_window=window, sortal_pack=packed
        )
        direction = torch.randn_like(out) if direction is None else direction
        out.backward(direction)
        found.append([out.detach(), *(t.grad for t in inputs)])
    for varlen, rectangles in zip(*found, strict=True):
        # Where a token sees itself alone, gradients of queries and keys are zero up to rounding.
        assert (varlen.float() - rectangles.float()).norm() < 0.02 * rectangles.float().norm() + 1e-3


def test_half_precision_on_cuda_takes_the_kernel():
    q = torch.zeros(3, 2, 64, device="cuda", dtype=torch.bfloat16)
    assert attention._can_use_varlen(q)
    assert not attention._can_use_varlen(q.float())
