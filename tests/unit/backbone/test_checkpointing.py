from __future__ import annotations

import pytest
import torch

from sortal.backbone import loading
from sortal.backbone.checkpointing import checkpoint_layers
from sortal.backbone.encoders import load_body
from sortal.backbone.packing import pack
from sortal.config import build_config
from sortal.methods.encoder_model import EncoderModel
from sortal.methods.head_model import tunable
from sortal.training.held_bytes import HeldBytes
from tiny_runs import FAMILIES, classifier, random_rows

ROWS = pack([[token % 20 for token in row] for row in random_rows(12, 1, 40, 3, 25)])


def head(folder, dropout=0.0):
    torch.manual_seed(0)
    model = tunable(classifier(folder, labels=3), build_config({"lora_dropout": dropout}))
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # as they begin, B is zero and gradients of A are, too
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def backward(model, seed=3):
    torch.manual_seed(seed)
    model.zero_grad()
    logits = model(ROWS)
    (logits * torch.arange(logits.numel()).view_as(logits)).sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_and_gradients_are_those_of_plain_layers(tiny_models, family, dropout):
    model = head(tiny_models[family], dropout)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    logits, gradients = backward(model)
    assert checkpoint_layers(model, dropout=dropout > 0) == 1
    again, found = backward(model)
    assert torch.equal(again, logits)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
    if not dropout:
        with torch.no_grad():
            torch.testing.assert_close(model(ROWS), logits)


def test_an_encoder_that_is_tuned_whole_too(tiny_encoders):
    settings = loading.load_config(str(tiny_encoders["bert"]))
    torch.manual_seed(0)
    model = EncoderModel(
        load_body(str(tiny_encoders["bert"]), settings), 3, 0, own=False, dtype=torch.float32
    )
    model.tune(build_config({"method": "encoder"}))
    logits, gradients = backward(model)
    assert checkpoint_layers(model, dropout=False) == 1
    again, found = backward(model)
    assert torch.equal(again, logits)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_a_layer_keeps_its_input_only(tiny_models):
    held = []
    for recompute in (False, True):
        model = head(tiny_models["llama"])
        if recompute:
            checkpoint_layers(model, dropout=False)
        with HeldBytes() as counted:
            model(ROWS).sum()
        held.append(counted.peak)
    assert held[1] < 0.7 * held[0], "of two layers one drops what it made"
