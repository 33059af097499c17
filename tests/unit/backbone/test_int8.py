"""8-bit weights: near the products they stand for, one scale per token, refused where they cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sortal.backbone.answering import freeze
from sortal.backbone.int8 import quantize_weights
from sortal.backbone.lora import add_lora, fuse
from sortal.backbone.packing import pack
from sortal.config import build_config
from sortal.errors import ConfigError
from sortal.methods.head_model import HeadModel
from tiny_runs import classifier, random_rows, stir

needs_vnni = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU has no VNNI")


class Stack(nn.Module):
    """One projection where a decoder has its own."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"up_proj": layer})])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers[0]["up_proj"](x)
        return found


def activations(*shape):
    """With one token a thousand times the others, and one of zeros."""
    x = torch.randn(*shape)
    x[0, 1] *= 1000
    x[0, 2] = 0
    return x


@needs_vnni
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.02), (torch.bfloat16, 0.025)])
@torch.inference_mode()
def test_products_are_near_those_of_the_weights(dtype, tolerance, bias):
    torch.manual_seed(0)
    layer = nn.Linear(96, 40, bias=bias).to(dtype)
    x = activations(1, 9, 96).to(dtype)
    expected = layer(x).float()
    quantize_weights(model := Stack(layer))
    found = model(x)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    error = (found.float() - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-9)
    assert error.max() < tolerance, "each token against its own size, however large another one is"
    assert error.max() > 1e-5, "it is 8-bit"


@needs_vnni
@torch.inference_mode()
def test_a_tokens_product_does_not_depend_on_the_others():
    torch.manual_seed(0)
    quantize_weights(model := Stack(nn.Linear(64, 32)))
    x = activations(1, 6, 64)
    alone = torch.cat([model(x[:, i : i + 1].clone()) for i in range(6)], dim=1)
    assert torch.equal(model(x), alone)


@needs_vnni
@torch.inference_mode()
def test_activations_that_changed_are_rounded_again():
    """Rounded values are kept for the next projection by identity; another tensor at the same place is another tensor."""
    torch.manual_seed(0)
    quantize_weights(model := Stack(nn.Linear(64, 32)))
    first = model(torch.ones(1, 2, 64))
    for _ in range(3):
        assert not torch.equal(model(torch.randn(1, 2, 64)), first)


@needs_vnni
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_head_answers_nearly_what_it_answered(tiny, dtype):
    model = stir(add_lora(classifier(tiny, dtype=dtype), build_config({})))
    fuse(model)
    freeze(model)
    rows, head = pack(random_rows(12, 1, 40, 3)), HeadModel(model, False)
    with torch.inference_mode():
        before = head(rows)
        assert quantize_weights(model) == 2 * 7
        after = head(rows)
    assert (after - before).norm() < 0.1 * before.norm()
    assert not torch.equal(after, before)


@needs_vnni
def test_four_bit_weights_are_refused(tiny):
    pytest.importorskip("bitsandbytes")
    model = classifier(tiny, quantization="nf4", nf4_backend="bitsandbytes")
    with pytest.raises(ConfigError, match="16- and 32-bit weights"):
        quantize_weights(model)


def test_a_cpu_without_the_instructions_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(ConfigError, match="VNNI"):
        quantize_weights(classifier(tiny))
