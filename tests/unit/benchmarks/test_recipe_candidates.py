"""What each unshipped ingredient of the search changes, and that it begins or ends where it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.recipe.candidates import LORA_PLUS, tried
from safetensors.torch import load_file

from sortal.backbone.lora import trainable, training_mode
from sortal.backbone.packing import pack
from sortal.config import build_config
from sortal.methods import head
from sortal.methods.text_folder import make_encoder
from sortal.training import loop
from sortal.training.losses import make_loss
from sortal.training.objective import Classification
from tiny_runs import classifier, fit, rows, stir, write_csv

TEXTS = pack([[5, 6, 7, 8], [9, 4], [3, 3, 3]])


def built(tiny, candidate, pooling="last", **settings):
    """A tuned network as method head builds it inside ``tried``; its adapters say something."""
    config = build_config(settings)
    with tried(candidate):
        torch.manual_seed(0)
        model = head.tunable(classifier(tiny), config, pooling)
    stir(model.classifier)
    return model


def test_without_a_candidate_nothing_is_changed():
    before = head.tunable, loop.make_optimizer, Classification.losses
    with tried(None):
        assert before == (head.tunable, loop.make_optimizer, Classification.losses)
    with tried("layer mixing"):
        assert before[0] is not head.tunable
    assert before == (head.tunable, loop.make_optimizer, Classification.losses)


def test_a_mix_of_the_last_layer_alone_is_what_is_shipped(tiny):
    plain, mixed = built(tiny, None), built(tiny, "layer mixing")
    assert (mixed.states(TEXTS) - plain.states(TEXTS)).abs().max() > 0.01, "at first all layers count alike"
    with torch.no_grad():
        mixed.mix[-1] = 50.0
    # The last layer is brought to the last one's scale by the norm that stands behind it.
    torch.testing.assert_close(mixed.states(TEXTS), plain.states(TEXTS))


def test_latent_pooling_begins_as_the_mean_and_learns(tiny):
    plain, latent = built(tiny, None, "mean"), built(tiny, "latent pooling", "mean")
    torch.testing.assert_close(latent.states(TEXTS), plain.states(TEXTS))
    latent(TEXTS).square().sum().backward()
    assert latent.down.weight.grad.abs().max() > 0


def test_lora_plus_gives_b_a_rate_of_its_own(tiny):
    config = build_config({"learning_rate": 1e-3})
    parameters = trainable(built(tiny, None))
    with tried("LoRA+"):
        optimizer = loop.make_optimizer(parameters, config)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert set(rate) == set(map(id, parameters.values()))
    for name, parameter in parameters.items():
        expected = (
            LORA_PLUS * 1e-3 if ".lora_B." in name else config.head_learning_rate if "score" in name else 1e-3
        )
        assert rate[id(parameter)] == pytest.approx(expected), name


def test_r_drop_adds_what_two_dropouts_disagree_about(tiny):
    config = build_config({"lora_dropout": 0.5})
    model = built(tiny, None, lora_dropout=0.5)
    texts = make_encoder(str(tiny), config).encode(["one text", "another", "a third"])
    every = gold = np.arange(3)
    loss = make_loss(config, "single", ("a", "b", "c"), gold)
    objective = Classification(model, texts, gold, loss, torch.device("cpu"))
    training_mode(model, False)
    plain = objective.losses(every)
    with tried("R-Drop"):
        torch.testing.assert_close(objective.losses(every), plain)
        training_mode(model, True)
        torch.manual_seed(1)
        apart = objective.losses(every)
    torch.manual_seed(1)
    without = (objective.losses(every) + objective.losses(every)) / 2
    assert (apart > without).all()


def test_a_second_stage_begins_at_the_adapters_of_another_set(tiny, tmp_path):
    data = write_csv(tmp_path / "d.csv", rows(60))
    fit(data, tiny, tmp_path / "banking77" / "plain-0")
    kept = load_file(tmp_path / "banking77" / "plain-0" / "model" / "adapter_model.safetensors")
    with tried("two stages"):
        config = build_config({"out": str(tmp_path / "goemotions" / "two-stages-0")})
        model = head.tunable(classifier(tiny), config)
    found = {name.replace(".default.", "."): p for name, p in model.classifier.named_parameters()}
    adapters = {name: weight for name, weight in kept.items() if ".lora_" in name}
    assert adapters
    for name, weight in adapters.items():
        torch.testing.assert_close(found[name].detach(), weight, rtol=0, atol=0)
    assert any(weight.abs().max() > 0 for name, weight in adapters.items() if "lora_B" in name)


def test_dora_learns_a_magnitude_and_begins_as_the_base_is(tiny):
    config = build_config({})
    plain = head.tunable(classifier(tiny), config)
    with tried("DoRA"):
        model = head.tunable(classifier(tiny), config)
    assert any("magnitude" in name for name in trainable(model))
    torch.testing.assert_close(model.states(TEXTS), plain.states(TEXTS), rtol=1e-4, atol=1e-4)
