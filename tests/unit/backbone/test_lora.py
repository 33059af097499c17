from __future__ import annotations

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from sortal.backbone.lora import (
    add_lora,
    flops_per_token,
    fuse,
    layer_index,
    linear_names,
    parameter_count,
    top_layers,
    trainable,
    training_mode,
)
from sortal.backbone.packing import pack
from sortal.config import build_config
from sortal.errors import ConfigError
from sortal.methods.head_model import HeadModel
from tiny_runs import FAMILIES, classifier, random_rows, stir

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_are_found_not_listed(tiny_models, family):
    model = classifier(tiny_models[family])
    names = linear_names(model)
    assert sorted(names) == sorted(["c_attn", "c_proj", "c_fc"] if family == "gpt2" else SEVEN)
    add_lora(model, build_config({}))
    adapted = [path for path, module in model.named_modules() if isinstance(module, LoraLayer)]
    assert len(adapted) == 2 * (4 if family == "gpt2" else 7), "every projection of both layers"
    assert not any("score" in path or "embed" in path for path in adapted)


def test_a_projection_with_an_unheard_of_name_is_a_target_too(tiny_models):
    model = classifier(tiny_models["llama"])
    model.model.layers[0].mlp.sideways_proj = nn.Linear(4, 4)
    assert "sideways_proj" in linear_names(model)


@pytest.mark.parametrize(
    ("path", "index"),
    [
        ("model.layers.7.mlp.up_proj", 7),
        ("transformer.h.0.attn.c_attn", 0),
        ("gpt_neox.layers.11.attention.dense", 11),
        ("score", None),
        ("model.embed_tokens", None),
        ("model.layers", None),
    ],
)
def test_layer_index_reads_the_place_in_the_stack(path, index):
    assert layer_index(path) == index


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_and_score_are_trained_in_fp32_and_nothing_else(tiny, dtype):
    model = add_lora(classifier(tiny, dtype=dtype), build_config({"lora_r": 3}))
    found = trainable(model)
    assert {p.dtype for p in found.values()} == {torch.float32}
    assert all("lora_" in name or ".score." in name for name in found)
    assert sum(".score." in name for name in found) == 1
    assert {p.shape[0] for name, p in found.items() if "lora_A" in name} == {3}


def test_a_misspelt_target_names_the_nearest(tiny):
    with pytest.raises(ConfigError, match=r"'q_porj'; did you mean 'q_proj'\?"):
        add_lora(classifier(tiny), build_config({"lora_targets": ["v_proj", "q_porj"]}))


def test_named_targets_alone_are_adapted(tiny):
    model = add_lora(classifier(tiny), build_config({"lora_targets": ["v_proj", "q_proj"]}))
    adapted = {path.rsplit(".", 1)[-1] for path, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert adapted == {"q_proj", "v_proj"}


def test_top_layers_adapts_only_the_top(tmp_path):
    from model_files import save_tiny

    base = save_tiny("llama", tmp_path / "deep", layers=4)
    model = add_lora(classifier(base), build_config({"lora_top_layers": 2}))
    HeadModel(stir(model), packed=False)(pack(random_rows(5, 3))).sum().backward()
    trained = {layer_index(name) for name, p in model.named_parameters() if p.grad is not None}
    assert trained - {None} == {2, 3}
    assert {layer_index(name) for name in trainable(model)} - {None} == {2, 3}


@pytest.mark.parametrize(("depth", "half"), [(1, 1), (2, 1), (3, 2), (30, 15), (31, 16)])
def test_half_of_the_layers_is_rounded_up(depth, half):
    assert top_layers(build_config({"lora_top_layers": "half"}), depth) == half


def test_operations_of_a_step_are_those_of_the_layers_that_it_passes(tmp_path):
    from model_files import save_tiny

    base = save_tiny("llama", tmp_path / "deep", layers=4)
    plain = classifier(base).requires_grad_(True)
    weights = sum(
        module.weight.numel()
        for path, module in plain.named_modules()
        if isinstance(module, nn.Linear) and layer_index(path) is not None
    )
    whole, half = (
        add_lora(classifier(base), build_config({"lora_top_layers": top})) for top in (None, "half")
    )
    assert flops_per_token(plain) == 6 * weights, "its weights are trained themselves"
    assert flops_per_token(whole) == 4 * weights
    assert flops_per_token(half) == 3 * weights, "forward through all, backward through half"
    assert flops_per_token(half, only_trained=True) == 2 * weights


def test_more_top_layers_than_there_are_is_refused(tiny):
    with pytest.raises(ConfigError, match="the model has 2 layers"):
        add_lora(classifier(tiny), build_config({"lora_top_layers": 3}))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fused_model_gives_the_logits_and_gradients_of_the_plain_one(tiny_models, family):
    found = []
    for fusing in (False, True):
        model = stir(add_lora(classifier(tiny_models[family]), build_config({})))
        replaced = fuse(model) if fusing else 0
        logits = HeadModel(model, packed=False)(pack(random_rows(7, 3, 12, 20)))
        logits.pow(2).sum().backward()
        found.append((logits.detach(), {n: p.grad for n, p in trainable(model).items()}))
    assert (replaced > 0) == (family != "gpt2"), "Conv1D layers and LayerNorm are left to transformers"
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-5, atol=1e-5)
    for name, gradient in found[0][1].items():
        error = (found[1][1][name] - gradient).norm()
        assert error <= 1e-5 * gradient.norm(), name


def test_fuse_replaces_every_lora_layer_norm_mlp_and_attention_of_a_llama(tiny):
    model = add_lora(classifier(tiny), build_config({}))
    assert fuse(model) == 2 * 7 + (2 * 2 + 1) + 2 + 2


def test_fuse_leaves_adapters_with_dropout_to_peft(tiny):
    model = add_lora(classifier(tiny), build_config({"lora_dropout": 0.2}))
    fuse(model)
    assert not any(hasattr(m, "_sortal_plain_forward") for m in model.modules())


def test_only_adapter_dropout_is_switched(tiny):
    model = add_lora(classifier(tiny), build_config({"lora_dropout": 0.5}))
    model.eval()
    rows = pack(random_rows(9))
    head = HeadModel(stir(model), packed=False)
    still = [head(rows) for _ in range(2)]
    training_mode(model, True)
    moving = [head(rows) for _ in range(2)]
    assert not model.training
    assert torch.equal(*still)
    assert not torch.equal(*moving)
    training_mode(model, False)
    assert torch.equal(head(rows), still[0])


def test_parameter_count_counts_what_4_bit_weights_stand_for(tiny):
    pytest.importorskip("bitsandbytes")
    plain = parameter_count(add_lora(classifier(tiny), build_config({})))
    four_bit = classifier(tiny, quantization="nf4", nf4_backend="bitsandbytes")
    assert parameter_count(add_lora(four_bit, build_config({}))) == plain
    assert 0 < plain[0] < plain[1]


def test_all_dropouts_work_while_all_weights_are_trained():
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)).eval()
    training_mode(network, True)
    assert network[1].training
    training_mode(network, False)
    assert not network[1].training
    network[0].bias.requires_grad_(False)
    training_mode(network, True)
    assert not network[1].training, "a frozen base keeps still"
