from __future__ import annotations

import gc

import pytest
import torch
from benchmarks.speed.sets import save_config
from benchmarks.speed.weights import made_on
from torch import nn

from sortal.backbone import loading
from sortal.backbone.lora import trainable
from sortal.backbone.packing import pack
from sortal.config import build_config
from sortal.methods.head_model import tunable
from sortal.training.losses import Loss
from tiny_runs import HARD_TEXTS, fit, random_rows, rows, stir, write_csv

pytestmark = pytest.mark.gpu


def _save(folder, *, hidden, inner, layers, heads, kv_heads, vocabulary):
    """Random bf16 weights of a Llama of this shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=True,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def _load(folder, quantization):
    config = loading.load_config(str(folder))
    config.num_labels, config.pad_token_id = 3, 0
    model = loading.load_classifier(
        str(folder),
        config,
        dtype=torch.bfloat16,
        device=torch.device("cuda"),
        quantization=quantization,
    )
    return stir(tunable(model, build_config({})), 0.01)


def _steps(model, lengths, steps=2):
    """Losses of a few optimiser steps on one pack, and the peak of allocated bytes meanwhile."""
    batch = pack(random_rows(*lengths)).to("cuda")
    targets = torch.arange(len(lengths), device="cuda") % 3
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-3, fused=True)
    torch.cuda.reset_peak_memory_stats()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = Loss("single")(model(batch), targets).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, torch.cuda.max_memory_allocated()


@pytest.fixture(scope="module")
def medium(tmp_path_factory):
    folder = tmp_path_factory.mktemp("medium")
    return _save(folder, hidden=1024, inner=2816, layers=8, heads=16, kv_heads=4, vocabulary=1000)


def test_an_nf4_lora_step_is_finite_and_takes_less_memory_than_bf16(medium, record_property):
    """S4 on CUDA."""
    pytest.importorskip("bitsandbytes")
    peaks = {}
    for quantization in ("none", "nf4"):
        model = _load(medium, quantization)
        score = model.inner.score.modules_to_save["default"]
        assert type(score) is nn.Linear
        assert score.weight.dtype == torch.float32
        assert score.weight.requires_grad
        assert model.packed
        losses, peaks[quantization] = _steps(model, (50, 20, 70, 60), steps=20)
        assert torch.isfinite(torch.tensor(losses)).all()
        assert losses[-1] < losses[0]
        del model, score
        gc.collect()
        torch.cuda.empty_cache()
    record_property("peak_bytes", peaks)
    assert peaks["nf4"] < 0.7 * peaks["none"]


def test_nf4_train_eval_train_has_equal_gradients_on_cuda(medium):
    """F9 on CUDA."""
    pytest.importorskip("bitsandbytes")
    model, batch = _load(medium, "nf4"), pack(random_rows(9, 30, 4)).to("cuda")
    gradients = []
    for train in (True, False, True):
        model.train(train)
        if not train:
            with torch.inference_mode():
                model(batch)
            continue
        model.zero_grad()
        model(batch).pow(2).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trainable(model).values()]))
    assert gradients[0].norm() > 0
    assert (gradients[0] - gradients[1]).norm() <= 1e-2 * gradients[0].norm()


def test_peak_memory_of_a_1b_shape_in_nf4(tmp_path, record_property):
    """The shape of Llama 3.2 1B with random weights: a step of 4,096 tokens; the peak goes into the test report."""
    pytest.importorskip("bitsandbytes")
    save_config("1b", tmp_path)
    gc.collect()
    torch.cuda.empty_cache()
    with made_on("cuda"):
        model = _load(tmp_path, "nf4")
    weights = torch.cuda.memory_allocated()
    losses, peak = _steps(model, (256,) * 16)
    record_property("weights_bytes", weights)
    record_property("peak_bytes", peak)
    print(f"1B shape, NF4: weights {weights / 2**30:.2f} GiB, peak {peak / 2**30:.2f} GiB")
    assert torch.isfinite(torch.tensor(losses)).all()
    assert weights < 1.5 * 2**30, "0.97 G parameters in 4 bits and 0.26 G embeddings in 16"
    assert peak < 16 * 2**30


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_run_on_cuda_reloads_with_its_answers(tiny_models, tmp_path, quantization):
    """S3 on CUDA: a 4-bit run must not be taken for a 4-bit checkpoint when it is loaded."""
    import numpy as np

    import sortal

    pytest.importorskip("bitsandbytes")
    data = write_csv(tmp_path / "data.csv", rows(45, ("odd", "good", "bad")))
    settings = {"quantization": quantization, "dtype": "bfloat16", "epochs": 2}
    result = fit(data, tiny_models["llama"], tmp_path / "run", **settings)
    again = sortal.load(tmp_path / "run" / "model")
    assert again.scorer.model.device.type == "cuda"
    before, after = (c.predict_proba(list(HARD_TEXTS)) for c in (result.classifier, again))
    np.testing.assert_allclose(after, before, atol=1e-2)
