from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama

from sortal.backbone import rotary
from sortal.backbone.lora import fuse


def _inputs(dtype=torch.float32, batch=1):
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(batch, 5, heads * 8, generator=generator).to(dtype) for heads in (4, 2))
    cos, sin = (torch.randn(1, 5, 8, generator=generator).to(dtype) for _ in range(2))
    split = [x.view(batch, 5, -1, 8).transpose(1, 2).detach().requires_grad_() for x in (q, k)]
    return *split, cos, sin


@pytest.mark.parametrize("batch", [1, 3])
def test_queries_keys_and_gradients_are_those_of_the_formula(batch):
    found = []
    for function in (rotary.rotary, modeling_llama.apply_rotary_pos_emb):
        q, k, cos, sin = _inputs(batch=batch)
        a, b = function(q, k, cos, sin)
        (a * torch.arange(8.0)).sum().backward(retain_graph=True)
        (b.sin() * torch.arange(8.0)).sum().backward()
        found.append((a, b, q.grad, k.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_bf16_is_as_near_to_the_exact_value_as_the_formula():
    q, k, cos, sin = _inputs(torch.bfloat16)
    exact = modeling_llama.apply_rotary_pos_emb(q.double(), k.double(), cos.double(), sin.double())
    for function in (rotary.rotary, modeling_llama.apply_rotary_pos_emb):
        for found, true in zip(function(q, k, cos, sin), exact, strict=True):
            assert found.dtype == torch.bfloat16
            assert (found.double() - true).norm() <= 4e-3 * true.norm()


def test_heads_of_a_token_stay_side_by_side():
    """Attention reads them so; anything else costs it a copy."""
    q, k, cos, sin = _inputs()
    for found in rotary.rotary(q, k, cos, sin):
        assert found.transpose(1, 2).is_contiguous()


def test_only_the_layer_itself_calls_it(monkeypatch):
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=1, intermediate_size=8, vocab_size=9)  # fmt: skip
    fused, plain = (modeling_llama.LlamaModel(config).eval() for _ in range(2))
    fused.load_state_dict(plain.state_dict())
    fused.requires_grad_(False)
    assert fuse(fused) >= 1
    assert modeling_llama.apply_rotary_pos_emb is not rotary.rotary
    ids = torch.tensor([[1, 2, 3, 4]])
    torch.testing.assert_close(fused(ids).last_hidden_state, plain(ids).last_hidden_state)
    monkeypatch.setattr(rotary, "_turned", lambda *a: pytest.fail("called"))
    plain(ids)
    with pytest.raises(pytest.fail.Exception, match="called"):
        fused(ids)


def test_a_layer_with_another_formula_is_left_alone(monkeypatch):
    class OtherAttention(modeling_llama.LlamaAttention):
        def forward(self, x):
            return self.q_proj(x)

    config = LlamaConfig(hidden_size=32, num_attention_heads=4)
    assert not rotary.is_rotary_attention(OtherAttention(config, 0))
    assert not rotary.is_rotary_attention(nn.MultiheadAttention(8, 2))
    assert rotary.is_rotary_attention(modeling_llama.LlamaAttention(config, 0))
    rotary._calls_formula.cache_clear()
    monkeypatch.setattr(
        modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin, unsqueeze_dim=1: (q, k)
    )
    assert not rotary.is_rotary_attention(modeling_llama.LlamaAttention(config, 0))
    rotary._calls_formula.cache_clear()


def test_partial_rotation_is_the_layers_own_affair():
    config = GPTNeoXConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=1, intermediate_size=8, vocab_size=9, rotary_pct=0.5)  # fmt: skip
    fused, plain = (modeling_gpt_neox.GPTNeoXModel(config).eval() for _ in range(2))
    fused.load_state_dict(plain.state_dict())
    fuse(fused.requires_grad_(False))
    ids = torch.tensor([[1, 2, 3, 4]])
    torch.testing.assert_close(fused(ids).last_hidden_state, plain(ids).last_hidden_state)
