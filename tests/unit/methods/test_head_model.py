from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.lora import trainable
from sortal.backbone.packing import pack
from sortal.config import build_config, resolve_sizes
from sortal.methods.head_model import HeadModel, tunable
from sortal.training.distributed import Processes
from sortal.training.loop import Loop
from sortal.training.losses import make_loss
from sortal.training.objective import Classification
from sortal.training.progress import NoProgress
from sortal.training.signals import StopRequest
from tiny_runs import FAMILIES, classifier, random_rows, stir

LENGTHS = (7, 3, 20, 12, 1, 9, 30, 4)
NAMES = ("alpha", "beta", "gamma")
SINGLE = np.array([0, 1, 2, 0, 0, 1, 0, 2])
MULTI = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 0]])


def _texts():
    rows = random_rows(*LENGTHS)
    flat = np.array([i for row in rows for i in row], dtype=np.int32)
    return EncodedTexts(flat, np.array([0, *np.cumsum(LENGTHS)]), 0)


def _model(base, **settings):
    config = build_config({"dtype": "float32", **settings})
    return stir(tunable(classifier(base), config))


def _step(model, max_tokens, task="single", order=None, **settings):
    """Loss and gradients of one optimiser step over all rows, as the loop accumulates them."""
    gold = SINGLE if task == "single" else MULTI
    config = resolve_sizes(build_config({"batch_size": len(gold), **settings}), len(gold))
    targets = torch.from_numpy(gold) if task == "single" else torch.from_numpy(gold).float()
    loop = Loop(
        model,
        Classification(model, _texts(), targets, make_loss(config, task, NAMES, gold), torch.device("cpu")),
        dict,
        config,
        processes=Processes(0, 1, torch.device("cpu")),
        max_tokens=max_tokens,
        store=None,
        stop=StopRequest(),
        view=NoProgress(),
        say=print,
    )
    value = loop._accumulate(np.arange(len(gold)) if order is None else np.array(order))
    return value, {name: p.grad.clone() for name, p in trainable(model).items()}


def _same(found, expected, tolerance):
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        error = (found[1][name] - gradient).norm()
        assert error <= tolerance * gradient.norm() + 1e-9, name


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_padded_and_single_rows_give_equal_logits_loss_and_gradients(tiny_models, family):
    """F10."""
    model = _model(tiny_models[family])
    assert model.packed
    found = []
    for packed, max_tokens in ((True, 10_000), (True, 16), (False, 10_000), (False, 1)):
        if not packed:  # transformers' own attention under a padding mask
            model.inner.set_attn_implementation("eager")
        model.packed = packed
        logits = model(pack(random_rows(*LENGTHS)))
        found.append((logits.detach(), _step(model, max_tokens)))
    for logits, step in found[1:]:
        torch.testing.assert_close(logits, found[0][0], rtol=1e-5, atol=1e-5)
        _same(step, found[0][1], 1e-5)


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("single", {}),
        ("single", {"class_weight": "balanced", "loss": "focal"}),
        ("multi", {}),
        ("multi", {"pos_weight": "balanced", "loss": "focal", "class_weight": {"beta": 3.0}}),
        ("multi", {"loss": "asymmetric"}),
        ("multi", {"logit_adjustment": 1.0, "negative_smoothing": 0.02}),
    ],
)
def test_a_step_has_the_same_gradients_however_it_is_cut(tiny, task, settings):
    """S11 and the step/microbatch rule, down to max_tokens=16 where nearly every example is alone."""
    model = _model(tiny)
    whole = _step(model, 10_000, task, **settings)
    assert whole[0] > 0
    for max_tokens in (16, 33, 50):
        _same(_step(model, max_tokens, task, **settings), whole, 1e-5)


def test_the_order_of_the_examples_in_a_step_does_not_matter(tiny):
    model = _model(tiny)
    _same(_step(model, 33, order=[5, 2, 7, 0, 1, 6, 3, 4]), _step(model, 33), 1e-5)


def test_a_padded_model_gets_rows_and_a_mask_and_nothing_of_ours(tiny, monkeypatch):
    model, seen = _model(tiny), {}
    model.packed = False
    model.inner.set_attn_implementation("eager")
    real = model.inner.model.forward
    monkeypatch.setattr(model.inner.model, "forward", lambda **given: seen.update(given) or real(**given))
    model(pack(random_rows(*LENGTHS)))
    assert set(seen) == {"input_ids", "attention_mask", "use_cache"}
    assert tuple(seen["input_ids"].shape) == (len(LENGTHS), max(LENGTHS))
    assert seen["attention_mask"].sum(1).tolist() == list(LENGTHS)
    assert set(seen["input_ids"][seen["attention_mask"] == 0].tolist()) == {model.pad_id}
    assert seen["use_cache"] is False


def test_logits_come_in_the_order_of_the_pack(tiny):
    model, rows = _model(tiny), random_rows(*LENGTHS)
    there, back = model(pack(rows)), model(pack(rows[::-1]))
    torch.testing.assert_close(back.flip(0), there, rtol=1e-5, atol=1e-5)


def test_the_final_token_is_what_is_read(tiny):
    model, row = _model(tiny), random_rows(9)[0]
    with torch.no_grad():
        logits = model(pack([row]))
        states = model.inner.model(input_ids=torch.tensor([row]), use_cache=False, sortal_pack=pack([row]))
        expected = model.inner.score(states.last_hidden_state[:, -1].float())
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_fp32(tiny, dtype):
    model = tunable(classifier(tiny, dtype=dtype), build_config({}))
    assert model(pack(random_rows(5, 3))).dtype == torch.float32


def test_bf16_gradients_point_where_fp32_gradients_do(tiny):
    steps = [
        _step(stir(tunable(classifier(tiny, dtype=dtype), build_config({}))), 10_000)
        for dtype in ("float32", "bfloat16")
    ]
    exact, rough = (torch.cat([g.flatten() for g in step[1].values()]) for step in steps)
    assert torch.nn.functional.cosine_similarity(exact, rough, dim=0) > 0.99
    assert {g.dtype for g in steps[1][1].values()} == {torch.float32}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_nf4_train_eval_train_has_equal_gradients(tiny_models, family, recwarn):
    """F9: bitsandbytes on a CPU repacks weights in eval mode and then loses the gradients of the input."""
    pytest.importorskip("bitsandbytes")
    base = classifier(tiny_models[family], quantization="nf4", nf4_backend="bitsandbytes")
    model = stir(tunable(base, build_config({})))
    recwarn.clear()
    steps = []
    for train in (True, False, True):
        model.train(train)
        with nullcontext() if train else torch.inference_mode():
            if train:
                steps.append(_step(model, 10_000))
            else:
                model(pack(random_rows(*LENGTHS)))
    assert all(g.norm() > 0 for name, g in steps[0][1].items()), "every adapter has a gradient"
    _same(steps[1], steps[0], 1e-6)
    assert [str(w.message) for w in recwarn if "autograd" in str(w.message).lower()] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_nf4_layers_give_the_gradients_of_their_dequantised_values(tiny_models, family):
    """Packed, fused 4-bit against the plain path: requantised weights, padded rows, peft's own forward."""
    pytest.importorskip("bitsandbytes")
    from sortal.backbone.lora import add_lora

    config = build_config({})
    four_bit = tunable(
        classifier(tiny_models[family], quantization="nf4", nf4_backend="bitsandbytes"), config
    )
    plain = HeadModel(add_lora(classifier(tiny_models[family], quantization="nf4"), config), packed=False)
    assert four_bit.packed
    with torch.no_grad():
        for name, parameter in trainable(stir(four_bit)).items():
            trainable(plain)[name].copy_(parameter)
    _same(_step(four_bit, 50), _step(plain, 10_000), 2e-4)


def test_the_classifier_is_not_registered_twice(tiny):
    names = [name for name, _ in _model(tiny).named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(names))
    assert all(name.startswith("classifier.") for name in names)
