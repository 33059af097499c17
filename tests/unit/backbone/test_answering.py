"""Models that only answer: adapters in the weights, weights in the layout of the matrix library, the same answers."""

from __future__ import annotations

import shutil
import types

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import LlamaConfig, LlamaForCausalLM

from model_files import save_tiny_llama
from sortal.backbone import native_products
from sortal.backbone.answering import freeze
from sortal.backbone.held import HeldWeights
from sortal.backbone.int8 import quantize_weights
from sortal.backbone.lora import add_lora, fuse, trainable
from sortal.backbone.packed_weights import is_packed, pack_weights, plain_linears, unpacked
from sortal.backbone.packing import pack
from sortal.backbone.tile_layers import is_known_layer, layer_in_tiles
from sortal.config import build_config
from sortal.methods.head_model import HeadModel, tunable
from tiny_runs import FAMILIES, classifier, random_rows, stir

ROWS = (12, 1, 40, 3)
PACKS_BF16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def adapted(base, dtype="float32", **settings):
    """A fused model with adapters that say something."""
    model = stir(add_lora(classifier(base, dtype=dtype), build_config(settings)))
    fuse(model)
    return model.eval()


def logits(model, rows=None):
    with torch.inference_mode():
        return HeadModel(model, False)(pack(random_rows(*ROWS)) if rows is None else rows)


def save_tokenizer(source, folder):
    for path in source.glob("*token*"):
        shutil.copy(path, folder)


def adapters(model):
    return {name: p.clone() for name, p in model.named_parameters() if "lora_" in name}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_model_gives_the_logits_it_gave(tiny_models, family, dropout):
    model = adapted(tiny_models[family], lora_dropout=dropout)
    before, kept = logits(model), adapters(model)
    freeze(model)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-5)
    assert not trainable(model)
    assert all(module.merged for module in model.modules() if isinstance(module, LoraLayer))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in adapters(model).items()), "saved as tuned"


def test_the_sum_is_rounded_once(tiny):
    model = adapted(tiny, "bfloat16")
    (path, layer), *_ = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]
    weight, pair = layer.get_base_layer().weight.double(), (layer.lora_A, layer.lora_B)
    a, b = (part["default"].weight.bfloat16().double() for part in pair)
    expected = (weight + layer.scaling["default"] * (b @ a)).float().bfloat16()
    freeze(model)
    found = unpacked(model.get_submodule(path).get_base_layer().weight)
    assert (found != expected).float().mean() < 0.01, "only where fp32 lies between two values of bf16"
    assert (found != weight.bfloat16()).float().mean() > 0.5, "the adapter is in it"


def test_freezing_twice_adds_the_adapters_once(tiny):
    model = adapted(tiny)
    freeze(model)
    once = logits(model)
    freeze(model)
    assert torch.equal(logits(model), once)


def test_weights_that_models_share_are_left_as_they_are(tiny):
    held = HeldWeights()
    with held.sharing():
        one, other = adapted(tiny, "bfloat16"), adapted(tiny, "bfloat16")
        before = logits(one)
        freeze(one)
    assert torch.equal(logits(one), before), "adapters beside the weights: the very products of training"
    assert torch.equal(logits(other), before)
    mine = {id(p) for n, p in one.named_parameters() if "lora_" not in n and "score" not in n}
    assert mine <= {id(p) for p in other.parameters()}


def test_what_others_hold_does_not_change_when_one_is_merged(tiny):
    with HeldWeights().sharing():
        one, other = adapted(tiny), adapted(tiny)
    before = logits(other)
    freeze(one)
    assert torch.equal(logits(other), before)


def test_four_bit_weights_keep_their_adapters_beside_them(tiny):
    pytest.importorskip("bitsandbytes")
    stored = classifier(tiny, quantization="nf4", nf4_backend="bitsandbytes")
    fuse(model := stir(add_lora(stored, build_config({}))))
    before = logits(model.eval())
    freeze(model)
    assert torch.equal(logits(model), before)
    assert not any(module.merged for module in model.modules() if isinstance(module, LoraLayer))


@pytest.mark.skipif(not PACKS_BF16, reason="this CPU packs no bf16 matrices")
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_packed_weights_give_the_products_of_plain_ones(tiny_models, family):
    model = classifier(tiny_models[family], dtype="bfloat16")
    fuse(model)
    before = logits(model)
    plain = [layer.weight.clone() for layer in plain_linears(model)]
    assert pack_weights(model) == len(plain) == 2 * 7
    # Rows of other lengths go through other kernels, which may add in another order.
    torch.testing.assert_close(logits(model), before, rtol=2e-2, atol=2e-2)
    for layer, weight in zip(plain_linears(model), plain, strict=True):
        assert is_packed(layer.weight)
        assert torch.equal(unpacked(layer.weight), weight)
    assert pack_weights(model) == 0, "what is packed stays as it is"


def test_weights_in_fp32_stay_plain(tiny):
    assert pack_weights(classifier(tiny)) == 0


@pytest.mark.skipif(not native_products.there(), reason="no tile unit (AMX), or no C compiler")
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_a_gated_mlp_of_packed_weights_is_one_product_after_the_other(tiny_models, family, monkeypatch):
    model = stir(classifier(tiny_models[family], dtype="bfloat16"))
    fuse(model)
    before = logits(model)
    pack_weights(model)
    calls = []
    whole = native_products.mlp
    monkeypatch.setattr(native_products, "mlp", lambda *given: calls.append(1) or whole(*given))
    torch.testing.assert_close(logits(model), before, rtol=2e-2, atol=2e-2)
    assert len(calls) == (0 if family == "gemma3" else 2), "gemma's is no SiLU"


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    """A Llama all of whose projections fit tiles."""
    folder = save_tiny_llama(tmp_path_factory.mktemp("even"))
    shape = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    config = LlamaConfig.from_pretrained(folder, **shape, num_hidden_layers=3)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.skipif(not native_products.there(), reason="no tile unit (AMX), or no C compiler")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_layer_before_and_behind_attention_has_the_bits_of_its_modules(even, pooling, threads, monkeypatch):
    network = stir(tunable(classifier(even, dtype="bfloat16"), build_config({}), pooling, skip=0))
    freeze(network)
    layers = [module for module in network.modules() if is_known_layer(module)]
    assert len(layers) == 3
    calls = []
    whole = native_products.behind_attention
    monkeypatch.setattr(native_products, "behind_attention", lambda *given: calls.append(1) or whole(*given))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            for rows in (random_rows(12, 1, 40, 3), random_rows(5), random_rows(*[30] * 20)):
                calls.clear()
                found = network(pack(rows))
                assert len(calls) == (2 if pooling == "last" else 3), "of the last layer few tokens are read"
                for layer in layers:
                    layer.forward = types.MethodType(type(layer).forward, layer)
                assert torch.equal(found, network(pack(rows)))
                for layer in layers:
                    layer.forward = types.MethodType(layer_in_tiles, layer)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not native_products.there(), reason="no tile unit (AMX), or no C compiler")
@pytest.mark.parametrize("other", ["activation", "norm"])
def test_a_layer_with_other_parts_is_computed_by_its_modules(even, tmp_path, other, monkeypatch):
    change = {"hidden_act": "gelu"} if other == "activation" else {}
    config = LlamaConfig.from_pretrained(even, **change)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    save_tokenizer(even, tmp_path)
    network = stir(tunable(classifier(tmp_path, dtype="bfloat16"), build_config({}), "mean", skip=0))
    if other == "norm":
        for module in network.modules():
            if is_known_layer(module):
                module.input_layernorm.weight.data = module.input_layernorm.weight.data.float()
    with torch.inference_mode():
        before = network(pack(random_rows(12, 1, 40)))
        freeze(network)
        monkeypatch.setattr(
            native_products, "behind_attention", lambda *given: pytest.fail("not its formula")
        )
        after = network(pack(random_rows(12, 1, 40)))
    torch.testing.assert_close(after, before, rtol=5e-2, atol=5e-2)


@pytest.mark.skipif(not native_products.there(), reason="no tile unit (AMX), or no C compiler")
def test_a_layer_in_tiles_does_other_work_step_by_step(even):
    network = stir(tunable(classifier(even, dtype="bfloat16"), build_config({}), "last", skip=0))
    freeze(network)
    whole = network.classifier.get_base_model()
    base = whole.model
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        packed = base(
            input_ids=ids, use_cache=False, position_ids=torch.arange(4)[None], sortal_pack=pack(ids.tolist())
        )
        whole.set_attn_implementation("eager")
        plain = base(input_ids=ids, use_cache=False)
        cached = base(input_ids=ids[:, :3], use_cache=True)
        after = base(input_ids=ids[:, 3:], past_key_values=cached.past_key_values, use_cache=True)
        both = base(input_ids=ids.repeat(2, 1), use_cache=False)
    for found in (
        plain.last_hidden_state[0, -1],
        after.last_hidden_state[0, -1],
        both.last_hidden_state[1, -1],
    ):
        torch.testing.assert_close(found, packed.last_hidden_state[0, -1], rtol=5e-2, atol=5e-2)


@pytest.mark.skipif(not native_products.there(), reason="no tile unit (AMX), or no C compiler")
@pytest.mark.parametrize("base", ["tiny", "even"])
def test_weights_in_tiles_go_to_eight_bits(base, request):
    model = classifier(request.getfixturevalue(base), dtype="bfloat16")
    fuse(model)
    pack_weights(model)
    before = logits(model)
    quantize_weights(model)
    torch.testing.assert_close(logits(model), before, rtol=1e-1, atol=1e-1)
