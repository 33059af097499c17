from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sortal.backbone import attention, environment, loading
from sortal.backbone.packing import pack
from sortal.backbone.pooling import pool, token_states, token_states_padded
from sortal.errors import MissingDependencyError, ModelError
from sortal.methods.head_model import HeadModel
from tiny_runs import FAMILIES, classifier, edit_json, random_rows

LENGTHS = (7, 3, 20, 12, 1)  # gemma3 and mistral have a window of 6 tokens


def _base(model):
    return getattr(model, model.base_model_prefix)


def _final(base, rows):
    return pool(token_states(base, rows), rows, "last")


def _final_padded(base, rows):
    return pool(token_states_padded(base, rows, 1), rows, "last")


def _copy(base, folder):
    shutil.copytree(base, folder)
    return folder


# the head


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_score_is_a_fresh_plain_fp32_linear_on_a_frozen_base(tiny_models, family, dtype):
    model = classifier(tiny_models[family], dtype=dtype)
    assert type(model.score) is nn.Linear
    assert model.score.bias is None
    assert model.score.weight.dtype == torch.float32
    assert tuple(model.score.weight.shape) == (3, 32)
    assert model.score.weight.std() > 0
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    assert model.dtype == getattr(torch, dtype)


def test_the_dropouts_of_pre_training_are_off(tiny_models):
    config = loading.load_config(str(tiny_models["gpt2"]))
    assert config.attn_pdrop == config.resid_pdrop == config.embd_pdrop == 0.1
    model = classifier(tiny_models["gpt2"])
    model.train()
    rows = pack(random_rows(9))
    head = HeadModel(model, packed=False)
    assert torch.equal(head(rows), head(rows))


# what cannot be loaded


def test_missing_weights_are_refused_not_initialised(tiny, tmp_path):
    folder = _copy(tiny, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"weights missing: .*up_proj"):
        classifier(folder)


def test_an_encoder_is_refused(tiny, tmp_path):
    from transformers import BertConfig, BertModel

    folder = tmp_path / "bert"
    config = BertConfig(
        vocab_size=258, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertModel(config).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"method head needs a causal language model") as error:
        classifier(folder)
    assert "bert" in str(error.value)


def test_a_folder_without_tokenizer_or_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer could be loaded"):
        loading.load_tokenizer(str(tmp_path))
    with pytest.raises(ModelError, match="not a model transformers can read"):
        loading.load_config(str(tmp_path))


def test_a_tokenizer_without_a_fast_version_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(
        loading.AutoTokenizer, "from_pretrained", lambda *a, **k: SimpleNamespace(is_fast=False)
    )
    with pytest.raises(ModelError, match="no fast version"):
        loading.load_tokenizer(str(tiny))


def test_nf4_without_bitsandbytes_names_the_extra(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependencyError, match=r"sortal\[gpu\]"):
        classifier(tiny, quantization="nf4")


def test_a_quantised_checkpoint_without_its_package_names_it(tiny, tmp_path, monkeypatch):
    folder = _copy(tiny, tmp_path / "quantised")
    edit_json(
        folder / "config.json",
        quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True},
    )

    def missing(*args, **kwargs):
        raise ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes")

    monkeypatch.setattr(loading.AutoModelForSequenceClassification, "from_pretrained", missing)
    with pytest.raises(MissingDependencyError, match="requires bitsandbytes"):
        classifier(folder)


# packing


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded_equals_single(tiny_models, family):
    """F10: states of the decoder, the cache of transformers on and off."""
    model = classifier(tiny_models[family])
    rows = random_rows(*LENGTHS)
    base = _base(model)
    with torch.inference_mode():
        single = {
            cache: torch.stack(
                [base(input_ids=torch.tensor([r]), use_cache=cache).last_hidden_state[0, -1] for r in rows]
            )
            for cache in (False, True)
        }
        padded = _final_padded(base, pack(rows))
        assert loading.enable_packing(model)
        packed = _final(base, pack(rows))
        reordered = _final(base, pack(rows[::-1])).flip(0)
    for states in (single[True], padded, packed, reordered):
        torch.testing.assert_close(states, single[False], rtol=1e-5, atol=1e-5)


def test_the_window_of_the_fixtures_is_shorter_than_the_rows(tiny_models):
    """Else the test above would say nothing about sliding windows."""
    for family in ("mistral", "gemma3"):
        model = classifier(tiny_models[family])
        row = random_rows(20)[0]
        changed = [row[0] + 1 if row[0] < 200 else row[0] - 1, *row[1:]]
        model.config._attn_implementation = "eager"
        base = _base(model)
        layers = base.layers
        base.layers = nn.ModuleList([layers[0]])  # one layer sees its window only
        with torch.inference_mode():
            states = [base(input_ids=torch.tensor([r])).last_hidden_state[0, -1] for r in (row, changed)]
        torch.testing.assert_close(states[0], states[1])


def _ignoring_the_pack(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """What transformers does with a packed row when nobody tells it about the borders."""
    kwargs.pop("sortal_pack", None)
    share = query.shape[1] // key.shape[1]
    out = nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(share, 1),
        value.repeat_interleave(share, 1),
        is_causal=True,
        scale=scaling,
    )
    return out.transpose(1, 2), None


def _failing(*args, **kwargs):
    raise TypeError("unexpected keyword argument 'sortal_pack'")


@pytest.mark.parametrize("broken", [_ignoring_the_pack, _failing])
def test_a_model_that_ignores_the_pack_stays_padded_and_right(tiny, monkeypatch, broken):
    model = classifier(tiny)
    before = model.config._attn_implementation
    rows = pack(random_rows(*LENGTHS))
    expected = HeadModel(model, packed=False)(rows)
    attention.AttentionInterface.register(attention.NAME, broken)
    try:
        packed = loading.enable_packing(model)
    finally:
        attention.AttentionInterface.register(attention.NAME, attention.packed_attention)
    assert not packed
    assert model.config._attn_implementation == before
    torch.testing.assert_close(HeadModel(model, packed)(rows), expected, rtol=1e-6, atol=1e-6)


def test_a_model_without_exchangeable_attention_stays_padded(tiny, monkeypatch):
    model = classifier(tiny)
    monkeypatch.setattr(type(_base(model)), "_supports_attention_backend", False)
    assert not loading.enable_packing(model)


# NF4


@pytest.fixture(scope="module")
def four_bit(tiny_models):
    pytest.importorskip("bitsandbytes")
    return {
        family: classifier(tiny_models[family], quantization="nf4", nf4_backend="bitsandbytes")
        for family in ("llama", "gpt2")
    }


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_requantised_values_equal_those_of_bitsandbytes(tiny_models, four_bit, family):
    from bitsandbytes.functional import dequantize_4bit

    plain, ours = classifier(tiny_models[family]), classifier(tiny_models[family], quantization="nf4")
    modules, changed = dict(ours.named_modules()), 0
    for path, module in four_bit[family].named_modules():
        if type(module).__name__ != "Linear4bit":
            continue
        expected = dequantize_4bit(module.weight.data, module.weight.quant_state)
        found = modules[path].weight
        found = found.t() if type(modules[path]).__name__ == "Conv1D" else found
        assert module.weight.quant_state.nested, "double quantisation"
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        changed += 1
    assert changed == 2 * (7 if family == "llama" else 4)
    for name, value in plain.named_parameters():
        if "proj" not in name and "c_" not in name and "score" not in name:
            assert torch.equal(value, ours.get_parameter(name)), f"{name} is no projection"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_both_backends_give_the_same_states(tiny_models, four_bit, family):
    rows = pack(random_rows(*LENGTHS))
    requantised = classifier(tiny_models[family], quantization="nf4")
    found = [_final_padded(_base(m), rows) for m in (requantised, four_bit[family])]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_four_bit_layers_are_told_to_keep_gradients_on_cpus(four_bit):
    for model in four_bit.values():
        flags = [m.support_avx512bf16_for_cpu for m in model.modules() if type(m).__name__ == "Linear4bit"]
        assert flags
        assert not any(flags)
        assert type(model.score) is nn.Linear


def test_the_saved_config_goes_with_the_16_bit_base(four_bit):
    """transformers reads this key as "the checkpoint itself is in 4 bits"."""
    assert not hasattr(four_bit["llama"].config, "quantization_config")


@pytest.fixture(scope="module")
def pre_quantised(tiny, tmp_path_factory):
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    folder = _copy(tiny, tmp_path_factory.mktemp("quantised") / "base")
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    AutoModelForCausalLM.from_pretrained(tiny, quantization_config=settings).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("asked", [{}, {"quantization": "nf4"}])
def test_a_pre_quantised_checkpoint_keeps_its_values_and_gets_a_plain_score(tiny, pre_quantised, asked):
    """S4: its projections must not be quantised again, nor score at all."""
    assert json.loads((pre_quantised / "config.json").read_text())["quantization_config"]
    model = classifier(pre_quantised, **asked)
    kinds = [type(m).__name__ for m in model.modules()]
    assert kinds.count("Linear4bit") == 14
    assert type(model.score) is nn.Linear
    assert model.score.weight.dtype == torch.float32
    assert not any(getattr(m, "support_avx512bf16_for_cpu", False) for m in model.modules())
    assert model.config.quantization_config is not None, "the folder must load with this base again"
    rows = pack(random_rows(*LENGTHS))
    expected = _final_padded(_base(classifier(tiny, quantization="nf4", nf4_backend="bitsandbytes")), rows)
    # The fixture's checkpoint has no double quantisation, hence the tolerance.
    found = _final_padded(_base(model), rows)
    assert (found - expected).norm() < 0.05 * expected.norm()


# dtype


@pytest.mark.parametrize(
    ("setting", "fast", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
    ],
)
def test_dtype_is_bf16_only_where_it_is_fast_or_asked_for(monkeypatch, setting, fast, expected):
    monkeypatch.setattr(environment, "fast_bf16", lambda: fast)
    assert loading.choose_dtype(setting, torch.device("cpu")) == expected
