"""Resuming an optimiser gives the run that was never interrupted, bit for bit (F1)."""

import json

import pytest
import torch

from sortal.errors import CheckpointError
from sortal.training.checkpoints import CheckpointStore
from sortal.training.optimizer_state import flatten_optimizer, restore_optimizer

IMPLEMENTATIONS = {
    "default": {},
    "fused": {"fused": True},
    "foreach": {"foreach": True},
    "amsgrad": {"amsgrad": True},
    "capturable-off": {"foreach": False},
}


def model(dtype=torch.float32, width=4):
    torch.manual_seed(0)
    net = torch.nn.ModuleDict(
        {
            "lora": torch.nn.Linear(3, width, dtype=dtype),
            "score": torch.nn.Linear(width, 2, bias=False),
            "idle": torch.nn.Linear(1, 1),
        }
    )
    return net, dict(net.named_parameters())


def adamw(named, lr=1e-2, **options):
    groups = [
        {"params": [p for n, p in named.items() if not n.startswith("score")]},
        {"params": [p for n, p in named.items() if n.startswith("score")], "lr": 3 * lr, "weight_decay": 0.5},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.8, 0.95), **options)


def train(net, optimizer, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(6, 3, generator=generator).to(net["lora"].weight.dtype)
        optimizer.zero_grad()
        net["score"](net["lora"](x).float()).square().mean().backward()
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        optimizer.step()


def state_of(optimizer, named):
    return {
        (name, key): value for name, p in named.items() for key, value in optimizer.state.get(p, {}).items()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_five_more_steps_equal_ten_in_one_go(tmp_path, options, dtype):
    net, named = model(dtype)
    optimizer = adamw(named, **options)
    train(net, optimizer, range(10))

    first, first_named = model(dtype)
    first_optimizer = adamw(first_named, **options)
    train(first, first_optimizer, range(5))
    tensors, description = flatten_optimizer(first_optimizer, first_named)
    CheckpointStore(tmp_path).save(5, {**first_named, **tensors}, {"optimizer": description})

    loaded, state = CheckpointStore(tmp_path).latest(pytest.fail).load()
    second, second_named = model(dtype)
    second_optimizer = adamw(second_named, lr=7.0, **options)
    train(second, second_optimizer, range(20, 22))
    second_optimizer.state[second_named["idle.weight"]] = {"step": torch.tensor(9.0)}  # to be dropped
    second.load_state_dict({name: loaded[name] for name in second_named})
    restore_optimizer(second_optimizer, second_named, loaded, state["optimizer"])
    train(second, second_optimizer, range(5, 10))

    assert all(torch.equal(named[name], second_named[name]) for name in named)
    expected, actual = state_of(optimizer, named), state_of(second_optimizer, second_named)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[k], actual[k]) and expected[k].dtype == actual[k].dtype for k in expected)
    for mine, theirs in zip(second_optimizer.param_groups, optimizer.param_groups, strict=True):
        assert {k: v for k, v in mine.items() if k != "params"} == {
            k: v for k, v in theirs.items() if k != "params"
        }


def test_state_goes_by_name_whatever_the_order():
    net, named = model()
    optimizer = torch.optim.AdamW(named.values())
    train(net, optimizer, range(2))
    saved = flatten_optimizer(optimizer, named)
    _, other_named = model()
    turned = torch.optim.AdamW(list(other_named.values())[::-1])
    restore_optimizer(turned, other_named, *saved)
    expected = state_of(optimizer, named)
    assert all(torch.equal(value, expected[key]) for key, value in state_of(turned, other_named).items())


def test_state_keeps_a_dtype_of_its_own_and_restored_tensors_are_copies():
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([parameter], momentum=0.9)
    optimizer.state[parameter] = {"momentum_buffer": torch.tensor([0.1, 0.2]), "count": 3, "none": None}
    tensors, description = flatten_optimizer(optimizer, {"p": parameter})
    restore_optimizer(optimizer, {"p": parameter}, tensors, json.loads(json.dumps(description)))
    tensors["optimizer/p/momentum_buffer"].zero_()
    restored = optimizer.state[parameter]
    assert torch.equal(restored.pop("momentum_buffer"), torch.tensor([0.1, 0.2]))
    assert restored == {"count": 3, "none": None}


def test_a_learning_rate_held_in_a_tensor():
    parameter = torch.nn.Parameter(torch.zeros(2))
    saved = flatten_optimizer(torch.optim.AdamW([parameter], lr=torch.tensor(0.3)), {"p": parameter})
    rate = torch.tensor(1.0)
    optimizer = torch.optim.AdamW([parameter], lr=rate)
    restore_optimizer(optimizer, {"p": parameter}, saved[0], json.loads(json.dumps(saved[1])))
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == torch.tensor(0.3).item()


def test_another_model_is_refused_and_the_optimiser_untouched():
    net, named = model()
    optimizer = adamw(named)
    train(net, optimizer, range(1))
    tensors, description = flatten_optimizer(optimizer, named)

    wide, wide_named = model(width=5)
    wide_optimizer = adamw(wide_named)
    train(wide, wide_optimizer, range(1))
    before = {key: value.clone() for key, value in state_of(wide_optimizer, wide_named).items()}
    with pytest.raises(CheckpointError, match=r"lora.weight has shape \[4, 3\], the parameter \[5, 3\]"):
        restore_optimizer(wide_optimizer, wide_named, tensors, description)
    assert all(torch.equal(v, before[k]) for k, v in state_of(wide_optimizer, wide_named).items())

    fewer = {name: p for name, p in named.items() if name != "score.weight"}
    with pytest.raises(CheckpointError, match=r"1 parameters differ, first score.weight"):
        restore_optimizer(adamw(fewer), fewer, tensors, description)
    with pytest.raises(CheckpointError, match="other parameter groups"):
        restore_optimizer(torch.optim.AdamW(named.values()), named, tensors, description)
    del tensors["optimizer/lora.bias/exp_avg_sq"]
    with pytest.raises(CheckpointError, match=r"lacks the optimiser's exp_avg_sq of lora.bias"):
        restore_optimizer(adamw(named), named, tensors, description)


def test_an_unnamed_parameter_is_a_mistake_of_the_caller():
    _, named = model()
    with pytest.raises(ValueError, match="does not name"):
        flatten_optimizer(adamw(named), {"score.weight": named["score.weight"]})
