from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaModel, LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from sortal.backbone import fused
from sortal.backbone.lora import fuse

shapes = st.tuples(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.booleans(),
)


def _random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _lora(inside, out, rank=2, bias=True, alpha=3, layer=None, **more):
    """A small network with one peft LoRA layer whose both matrices are random."""
    torch.manual_seed(0)
    net = nn.Sequential(layer or nn.Linear(inside, out, bias=bias)).requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"], **more)
    net = inject_adapter_in_model(config, net)
    nn.init.normal_(net[0].lora_B["default"].weight, std=0.5)
    return net


def _run(module, x, direction=None):
    """Output, gradient of the input, gradients of the trained parameters."""
    x = x.detach().clone().requires_grad_()
    out = module(x)
    out.backward(_random(*out.shape, seed=7, dtype=out.dtype) if direction is None else direction)
    grads = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    return out.detach(), x.grad, grads


def _same(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours[0], theirs[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours[1], theirs[1], rtol=tolerance, atol=tolerance)
    assert ours[2].keys() == theirs[2].keys()
    for name, gradient in theirs[2].items():
        torch.testing.assert_close(ours[2][name], gradient, rtol=tolerance, atol=tolerance)


def _close(ours, theirs, tolerance):
    """Loose comparison for bf16, by norms."""
    pairs = [(ours[0], theirs[0]), (ours[1], theirs[1]), *((ours[2][n], g) for n, g in theirs[2].items())]
    for a, b in pairs:
        assert (a.float() - b.float()).norm() <= tolerance * b.float().norm()


# LoRA linear


@settings(max_examples=30, deadline=None)
@given(shapes)
def test_fused_lora_equals_peft_in_output_and_gradients(shape):
    leading, inside, out, rank, bias = shape
    plain = _lora(inside, out, rank, bias)
    replaced = copy.deepcopy(plain)
    assert fuse(replaced) == 1
    x = _random(*leading, inside, seed=3)
    ours, theirs = _run(replaced, x), _run(plain, x)
    assert set(ours[2]) == {"0.lora_A.default.weight", "0.lora_B.default.weight"}
    _same(ours, theirs)


def test_fused_lora_takes_inputs_that_are_not_contiguous():
    plain = _lora(6, 5)
    replaced = copy.deepcopy(plain)
    fuse(replaced)
    x = _random(6, 4, 3).permute(2, 1, 0)
    _same(_run(replaced, x), _run(plain, x))


def test_fused_lora_leaves_its_input_and_the_incoming_gradient_alone():
    net = _lora(6, 6)
    fuse(net)
    x, direction = _random(4, 6), _random(4, 6, seed=1)
    kept = x.clone(), direction.clone()
    leaf = x.requires_grad_()
    net(leaf).backward(direction)
    assert torch.equal(leaf.detach(), kept[0])
    assert torch.equal(direction, kept[1])


def test_fused_lora_without_an_input_gradient_still_trains_the_adapter():
    plain = _lora(6, 5)
    replaced = copy.deepcopy(plain)
    fuse(replaced)
    for net in (plain, replaced):
        net(_random(3, 6)).sum().backward()
    for a, b in zip(plain.parameters(), replaced.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)


def test_fused_lora_in_bf16_keeps_fp32_adapters_and_is_close_to_peft():
    plain = _lora(32, 24, rank=4)
    plain[0].base_layer.to(torch.bfloat16)
    replaced = copy.deepcopy(plain)
    fuse(replaced)
    x = _random(16, 32, dtype=torch.bfloat16)
    ours, theirs = _run(replaced, x), _run(plain, x)
    assert ours[0].dtype == torch.bfloat16
    assert {g.dtype for g in ours[2].values()} == {torch.float32}
    _close(ours, theirs, 0.02)


@pytest.mark.parametrize("bias", [True, False])
def test_fused_lora_on_a_4_bit_layer_equals_peft(bias):
    """F9's other half: the fused path multiplies with the values bitsandbytes does."""
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear4bit(64, 32, bias=bias, compute_dtype=torch.float32, quant_type="nf4")
    layer = layer.to("cpu")
    layer.support_avx512bf16_for_cpu = False
    layer(_random(1, 64))  # quantises
    plain = _lora(64, 32, layer=layer)
    replaced = copy.deepcopy(plain)
    assert type(replaced[0].base_layer) is bnb.nn.Linear4bit
    assert fuse(replaced) == 1
    x = _random(2, 5, 64, seed=3)
    _same(_run(replaced, x), _run(plain, x), 2e-5)


# RMSNorm

NORMS = {"llama": LlamaRMSNorm, "qwen3": Qwen3RMSNorm, "gemma": Gemma3RMSNorm}


def _norm(kind, hidden, dtype=torch.float32, centre=0.0):
    module = NORMS[kind](hidden).to(dtype)
    with torch.no_grad():
        module.weight.copy_(_random(hidden, seed=5) * 0.5 + centre)
    return module.requires_grad_(False)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(NORMS)), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 16)
)
def test_fused_norm_equals_transformers_in_output_and_gradient(kind, leading, hidden):
    plain = _norm(kind, hidden, centre=1.0)
    replaced = copy.deepcopy(plain)
    assert fuse(replaced) == 1
    x = _random(*leading, hidden, seed=2) * 3
    _same(_run(replaced, x), _run(plain, x))


@pytest.mark.parametrize("kind", sorted(NORMS))
def test_fused_norm_in_bf16_is_close(kind):
    plain = _norm(kind, 64, torch.bfloat16, centre=1.0)
    replaced = copy.deepcopy(plain)
    assert fuse(replaced) == 1
    x = _random(8, 64, dtype=torch.bfloat16)
    ours, theirs = _run(replaced, x), _run(plain, x)
    assert ours[0].dtype == ours[1].dtype == torch.bfloat16
    _close(ours, theirs, 0.01)


@pytest.mark.parametrize("kind", sorted(NORMS))
def test_fused_norm_leaves_its_input_and_the_incoming_gradient_alone(kind):
    """The gradient of a post-norm is also the residual's: changing it in place corrupts every layer below."""
    module = _norm(kind, 8)
    fuse(module)
    x, direction = _random(4, 8), _random(4, 8, seed=1)
    kept = x.clone(), direction.clone()
    leaf = x.requires_grad_()
    module(leaf).backward(direction)
    assert torch.equal(leaf.detach(), kept[0])
    assert torch.equal(direction, kept[1])


@pytest.mark.parametrize("kind", sorted(NORMS))
def test_a_post_norm_with_a_residual_has_the_right_gradient(kind):
    plain = _norm(kind, 8, centre=1.0)
    replaced = copy.deepcopy(plain)
    fuse(replaced)
    x = _random(4, 8)
    _same(_run(_Function(lambda t: t + replaced(t * 2)), x), _run(_Function(lambda t: t + plain(t * 2)), x))


class _Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("centre", [0.0, 1.0, 300.0])
@pytest.mark.parametrize("kind", sorted(NORMS))
def test_the_formula_of_a_norm_is_found_by_its_numbers(kind, centre, dtype):
    """Weights of 300 differ from weights of 301 by less than bf16 rounding."""
    module = _norm(kind, 16, dtype, centre)
    assert fused.is_rms_norm(module)
    assert module._sortal_plus_one is (kind == "gemma")


def test_a_norm_of_another_formula_is_left_alone():
    class CentredRMSNorm(LlamaRMSNorm):
        def forward(self, x):
            return super().forward(x - x.mean(-1, keepdim=True))

    module = CentredRMSNorm(8).requires_grad_(False)
    assert not fused.is_rms_norm(module)
    assert fuse(nn.Sequential(module, nn.LayerNorm(8))) == 0


def test_a_norm_that_is_trained_is_left_alone():
    assert not fused.is_rms_norm(LlamaRMSNorm(8))


# gated MLP


def _mlp(activation="silu", bias=False):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=8, num_attention_heads=2, intermediate_size=12, hidden_act=activation, mlp_bias=bias
    )
    return LlamaMLP(config)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.booleans())
def test_fused_mlp_equals_transformers_in_output_and_gradients(leading, bias):
    plain = _mlp(bias=bias)
    replaced = copy.deepcopy(plain)
    assert fuse(replaced) == 1
    x = _random(*leading, 8, seed=2) * 2
    _same(_run(replaced, x), _run(plain, x))


def test_fused_mlp_in_bf16_is_close():
    plain = _mlp().to(torch.bfloat16)
    replaced = copy.deepcopy(plain)
    assert fuse(replaced) == 1
    x = _random(16, 8, dtype=torch.bfloat16)
    _close(_run(replaced, x), _run(plain, x), 0.02)


def test_silu_mul_leaves_its_inputs_and_the_incoming_gradient_alone():
    gate, up, direction = _random(3, 4), _random(3, 4, seed=1), _random(3, 4, seed=2)
    kept = [t.clone() for t in (gate, up, direction)]
    fused._SiluMul.apply(gate.requires_grad_(), up.requires_grad_()).backward(direction)
    for now, before in zip((gate, up, direction), kept, strict=True):
        assert torch.equal(now.detach(), before)


def test_another_activation_is_not_taken_for_silu():
    assert fuse(_mlp("gelu")) == 0


def test_an_unknown_mlp_class_is_left_alone():
    other = _mlp()
    other.__class__ = type("StrangeMLP", (LlamaMLP,), {})
    assert not fused.is_silu_mlp(other)


# where peft's own forward stays in use


@pytest.mark.parametrize("more", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_dropout_dora_and_adapter_biases_are_left_to_peft(more):
    net = _lora(6, 5, **more)
    assert fuse(net) == 0
    assert net[0].forward.__func__ is type(net[0]).forward


def test_a_layer_with_two_adapters_is_left_to_peft():
    net = _lora(6, 5)
    net[0].update_layer("second", 2, lora_alpha=2, config=LoraConfig(r=2))
    assert fuse(net) == 0


def test_merged_and_disabled_adapters_use_pefts_forward():
    plain = _lora(6, 5)
    replaced = copy.deepcopy(plain)
    fuse(replaced)
    x = _random(3, 6)
    active = replaced(x)
    for change in ("merge", "disable"):
        for net in (plain, replaced):
            net[0].merge() if change == "merge" else (net[0].unmerge(), net[0].enable_adapters(False))
        torch.testing.assert_close(replaced(x), plain(x), rtol=1e-5, atol=1e-6)
        if change == "merge":
            torch.testing.assert_close(replaced(x), active, rtol=1e-5, atol=1e-5)
        else:
            torch.testing.assert_close(replaced(x), replaced[0].base_layer(x))
    replaced[0].enable_adapters(True)
    torch.testing.assert_close(replaced(x), active, rtol=1e-5, atol=1e-5)


def test_adapters_are_narrowed_once_for_a_forward_and_follow_the_optimiser():
    """The same numbers as casting them layer by layer, before and after a step, and nothing is kept between."""
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, intermediate_size=16, vocab_size=9)  # fmt: skip
    torch.manual_seed(0)
    base = LlamaModel(config).to(torch.bfloat16).requires_grad_(False)
    net = inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj", "down_proj"]), base)
    for name, parameter in net.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter, dtype=torch.float32) / 4
    fuse(net)
    apart = copy.deepcopy(net)
    for hook in apart._sortal_narrowing:
        hook.remove()
    apart._forward_hooks.clear()
    apart._forward_pre_hooks.clear()
    calls = []
    narrow = fused.narrow_adapters
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "narrow_adapters", lambda *given: calls.append(1) or narrow(*given))
        for _ in range(2):
            for model in (net, apart):
                model(torch.tensor([[1, 2, 3]])).last_hidden_state.float().square().sum().backward()
                trained = [p for p in model.parameters() if p.requires_grad]
                assert trained
                assert all(p.grad is not None for p in trained)
                torch.optim.SGD(trained, lr=0.1).step()
            pairs = zip(net.parameters(), apart.parameters(), strict=True)
            assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert len(calls) == 2
    assert all(getattr(module, "_sortal_narrow", None) is None for module in net.modules())
