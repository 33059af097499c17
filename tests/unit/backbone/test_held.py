"""Frozen weights of several models, held once: what is shared, and what is not."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sortal.backbone import loading
from sortal.backbone.depth import cut_layers
from sortal.backbone.held import HeldWeights
from tiny_runs import FAMILIES, classifier

CPU = torch.device("cpu")


def language_model(base, **more):
    settings = loading.load_config(str(base))
    return loading.load_language_model(str(base), settings, dtype=torch.float32, device=CPU, **more)


def cut_classifier(base, layers):
    settings = loading.load_config(str(base))
    cut_layers(settings, layers)
    settings.num_labels, settings.pad_token_id = 2, 1
    return loading.load_classifier(str(base), settings, dtype=torch.float32, device=CPU)


def frozen(model):
    """Everything that was pretrained, by name."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: p for name, p in named if not name.startswith("score.")}


def shared(one, other):
    """Names of what is one object in both."""
    mine = frozen(one)
    return {name for name, p in frozen(other).items() if p is mine.get(name)}


@pytest.mark.parametrize("family", FAMILIES)
def test_models_on_one_base_share_all_of_it(tiny_models, family):
    base, held = tiny_models[family], HeldWeights()
    with held.sharing():
        head = classifier(base)
        model, short, wide = language_model(base), cut_classifier(base, 1), classifier(base, labels=7)
    names = set(frozen(head))
    assert names == shared(head, model) & names == shared(head, wide)
    assert shared(head, short) == set(frozen(short)) < names
    scores = {id(each.score.weight) for each in (head, short, wide)}
    assert len(scores) == 3
    # A language model whose output is its embedding goes on having one tensor for both.
    alone = language_model(base)
    tied = alone.get_output_embeddings().weight is alone.get_input_embeddings().weight
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    assert held.spared == sum(p.nbytes for each in (model, short, wide) for p in unique(each, head))
    ids = torch.arange(2, 9)[None]
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, alone(ids).logits)


def unique(model, other):
    """Parameters of ``model`` that ``other`` has, each once."""
    mine = {id(p) for p in other.parameters()}
    return [p for p in model.parameters() if id(p) in mine]


def test_what_differs_is_not_shared(tiny, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    tensors = load_file(other / "model.safetensors")
    changed = "model.layers.1.mlp.up_proj.weight"
    tensors[changed][-1, -1] += 1e-3
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with HeldWeights().sharing():
        one, narrow, edited = classifier(tiny), classifier(tiny, dtype="bfloat16"), classifier(other)
    assert shared(one, narrow) == set()
    assert set(frozen(one)) - shared(one, edited) == {changed}


def test_nothing_is_shared_unless_asked_for(tiny):
    with HeldWeights().sharing():
        one = classifier(tiny)
    assert shared(one, classifier(tiny)) == set()
    with HeldWeights().sharing():
        assert shared(one, classifier(tiny)) == set()


@pytest.mark.parametrize("backend", ["auto", "bitsandbytes"])
def test_four_bit_weights_are_shared_with_their_scales(tiny, backend):
    pytest.importorskip("bitsandbytes")
    nf4 = {"quantization": "nf4", "nf4_backend": backend}
    with HeldWeights().sharing():
        plain, one, other = classifier(tiny), classifier(tiny, **nf4), language_model(tiny, **nf4)
    assert set(frozen(one)) == shared(one, other) & set(frozen(one))
    path = "model.layers.0.self_attn.q_proj"
    assert f"{path}.weight" not in shared(plain, one)
    if backend == "bitsandbytes":
        layers = [model.get_submodule(path) for model in (one, other)]
        assert layers[0].quant_state is layers[1].quant_state is layers[1].weight.quant_state


def test_equal_codes_with_other_scales_are_not_shared(tiny):
    pytest.importorskip("bitsandbytes")
    nf4 = {"quantization": "nf4", "nf4_backend": "bitsandbytes"}
    name = "model.layers.0.self_attn.q_proj.weight"
    held = HeldWeights()
    with held.sharing():
        one = classifier(tiny, **nf4)
    one.get_parameter(name).quant_state.offset.mul_(2)
    with held.sharing():
        other = classifier(tiny, **nf4)
    assert torch.equal(one.get_parameter(name).data, other.get_parameter(name).data)
    assert set(frozen(one)) - shared(one, other) == {name}
