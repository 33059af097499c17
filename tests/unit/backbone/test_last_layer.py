from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from sortal.backbone import loading
from sortal.backbone.last_layer import last_layer_at
from sortal.backbone.lora import fuse
from sortal.backbone.packing import filled, pack
from sortal.backbone.pooling import token_states
from sortal.methods.head_model import HeadModel
from tiny_runs import FAMILIES, random_rows

ROWS = random_rows(12, 1, 40, 3, 25)


def _classifier(folder):
    torch.manual_seed(0)
    config = loading.load_config(str(folder))
    config.num_labels, config.pad_token_id = 3, 1
    made = loading.load_classifier(str(folder), config, dtype=torch.float32, device=torch.device("cpu"))
    assert loading.enable_packing(made)
    return made


@pytest.fixture(scope="module")
def classifiers(tiny_models):
    return {family: _classifier(folder) for family, folder in tiny_models.items()}


def _base(model):
    return getattr(model, model.base_model_prefix)


def _hooks(base):
    return sum(len(module._forward_hooks) for module in base.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_states_that_are_read_are_the_models(classifiers, family):
    base, rows = _base(classifiers[family]), pack(ROWS)
    with torch.inference_mode():
        whole, few = token_states(base, rows), token_states(base, rows, rows.last)
    torch.testing.assert_close(few[rows.last], whole[rows.last], rtol=1e-5, atol=1e-5)
    others = np.setdiff1d(np.arange(rows.tokens), rows.last.numpy())
    assert not torch.isclose(few[others], whole[others]).all(1).any(), (
        "everywhere else something was left out"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_whole_layer(classifiers, family, tiny_models):
    found = []
    for narrow in (False, True):
        model = get_peft_model(
            _classifier(tiny_models[family]),
            LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, exclude_modules=["score"]),
        )
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        fuse(model)
        rows = pack(ROWS)
        base = _base(model.get_base_model())
        before = _hooks(base)
        with last_layer_at(base, rows.last):
            assert _hooks(base) - before == (1 if family == "gpt2" else 2), (
                "adapters are of no token's concern"
            )
        states = token_states(base, rows, rows.last if narrow else None)
        # not the squares: behind a norm their sum is always the same
        weights = torch.randn(states.shape[1], generator=torch.Generator().manual_seed(2))
        (states[rows.last] * weights).sum().backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert found[0]
    for name, gradient in found[0].items():
        torch.testing.assert_close(
            found[1][name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())
        )


def test_the_hooks_leave_with_the_block_even_after_an_error(classifiers):
    base, rows = _base(classifiers["llama"]), pack(ROWS)

    def fails():
        with last_layer_at(base, rows.last):
            assert _hooks(base) > before
            raise RuntimeError

    before = _hooks(base)
    with pytest.raises(RuntimeError):
        fails()
    assert _hooks(base) == before


def test_an_mlp_that_looks_at_other_tokens_is_computed_whole(classifiers, tiny_models):
    """Whatever is not a linear layer or an activation may be a router or a convolution over time."""
    model = _classifier(tiny_models["llama"])
    base, rows = _base(model), pack(ROWS)
    base.layers[-1].mlp.act_fn = torch.nn.LayerNorm(base.config.intermediate_size)
    with torch.inference_mode(), last_layer_at(base, rows.last):
        assert not base.layers[-1].mlp._forward_hooks


def test_a_head_reads_final_tokens_only_where_that_is_what_it_pools(classifiers):
    head = HeadModel(classifiers["llama"], True)
    mean = HeadModel(classifiers["llama"], True, "mean")
    assert not filled(ROWS, 200, 8, 40).whole
    with torch.inference_mode():
        narrow, spare = head(pack(ROWS)), head(filled(ROWS, 200, 8, 40))
        torch.testing.assert_close(spare[: len(ROWS)], narrow, rtol=1e-5, atol=1e-5)
        states = token_states(_base(classifiers["llama"]), pack(ROWS))
        first = states[: len(ROWS[0])].mean(0)
        torch.testing.assert_close(mean.states(pack(ROWS))[0], first, rtol=1e-5, atol=1e-5)


def test_nothing_may_be_read(classifiers, tiny_models):
    """Of a prompt only keys and values are kept."""
    model = get_peft_model(_classifier(tiny_models["llama"]), LoraConfig(r=2, target_modules="all-linear"))
    fuse(model)
    rows, none = pack(ROWS), torch.zeros(0, dtype=torch.int64)
    with torch.inference_mode():
        states = token_states(_base(model.get_base_model()), rows, none)
    assert states.shape == (rows.tokens, 32)
