from __future__ import annotations

import numpy as np
import pytest
import torch

from sortal.backbone import loading
from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.lora import trainable
from sortal.config import build_config
from sortal.methods.head_model import tunable
from sortal.training.graphs import StepGraphs, round_up
from sortal.training.losses import Loss
from sortal.training.objective import Classification
from tiny_runs import fit, random_rows, rows, stir, write_csv

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")


def _network(folder, pooling, quantization):
    settings = loading.load_config(str(folder))
    settings.num_labels, settings.pad_token_id = 3, 0
    model = loading.load_classifier(
        str(folder), settings, dtype=torch.bfloat16, device=CUDA, quantization=quantization
    )
    return stir(tunable(model, build_config({}), pooling, skip=2), 0.05)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("task", ["single", "multi"])
def test_recorded_steps_have_the_gradients_of_steps_kernel_by_kernel(tiny, task, pooling, quantization):
    pytest.importorskip("bitsandbytes")
    model = _network(tiny, pooling, quantization)
    lengths = np.random.default_rng(0).integers(3, 40, 64)
    targets = torch.arange(64) % 3
    targets = torch.nn.functional.one_hot(targets, 3).float() if task == "multi" else targets
    objective = Classification(model, _texts(random_rows(*lengths)), targets, Loss(task), CUDA)
    parameters = list(trainable(model).values())
    said = []
    graphs = StepGraphs(objective, parameters, 16, said.append)

    def gradients():
        found = torch.cat([p.grad.flatten().float() for p in parameters])
        for p in parameters:
            p.grad.zero_()
        return found

    steps = [np.arange(start, start + n) for start in (0, 16, 32) for n in (16, 9)] * 2
    replayed = 0
    for step in steps:
        eager = objective.losses(step).sum() / len(step)
        eager.backward()
        expected, before = float(eager.detach()), gradients()
        del eager  # its graph's accumulation nodes belong to another stream than the one that records
        value = graphs.backward(step, 1 / len(step))
        if value is None:
            continue
        replayed += 1
        after = gradients()
        assert abs(float(value) - expected) <= 2e-2 * abs(expected)
        assert (after - before).norm() <= 2e-2 * before.norm()
    assert not said
    sizes = {round_up(int(lengths[step].sum())) for step in steps}
    assert replayed == len(steps) - len(sizes)


def _toy_graphs(tiny, said, lengths, tokens):
    model = _network(tiny, "last", "none")
    objective = Classification(
        model, _texts(random_rows(*lengths)), torch.arange(len(lengths)) % 3, Loss("single"), CUDA
    )
    return StepGraphs(objective, list(trainable(model).values()), 16, said.append, tokens)


def _step(graphs, rows):
    value = graphs.backward(rows, 0.1)
    if value is None:
        graphs.objective.losses(rows).sum().backward()
    return value


def test_large_packs_are_not_recorded_and_recordings_can_be_given_up_for_them(tiny):
    said: list[str] = []
    graphs = _toy_graphs(tiny, said, [20] * 3 + [120] * 2, tokens=128)
    short, long = np.arange(3), np.arange(3, 5)
    assert [_step(graphs, rows) is None for rows in (short, long) * 3] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    assert not graphs.give_up(largest=128), "packs of that size are recorded, too"
    before = torch.cuda.memory_reserved()
    assert graphs.give_up(largest=256)
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < before
    assert "not recorded" in said[0]
    assert [_step(graphs, rows) is None for rows in (short, long) * 2] == [True] * 4
    assert not graphs.give_up(largest=256)


def test_nothing_is_recorded_where_it_would_take_what_other_steps_need(tiny, monkeypatch):
    said: list[str] = []
    graphs = _toy_graphs(tiny, said, [20] * 3, tokens=128)
    rows, room = np.arange(3), [0]
    monkeypatch.setattr("sortal.training.graphs.untouched_memory", lambda device: room[0])
    assert [_step(graphs, rows) is None for _ in range(3)] == [True] * 3
    room[0] = 10**9
    assert _step(graphs, rows) is not None
    assert not said


def _texts(rows):
    flat = np.concatenate([np.asarray(row, np.int32) for row in rows])
    return EncodedTexts(flat, np.concatenate([[0], np.cumsum([len(row) for row in rows])]), 0)


@pytest.mark.parametrize("graphs", [True, False])
def test_a_run_learns_with_and_without_graphs(tiny, tmp_path, graphs):
    data = write_csv(tmp_path / "data.csv", rows(120, ("odd", "good", "bad")))
    said: list[str] = []
    settings = {"dtype": "bfloat16", "epochs": 4, "cuda_graphs": graphs}
    result = fit(data, tiny, tmp_path / "run", said=said, **settings)
    assert not any("CUDA graphs" in line for line in said)
    assert result.metrics["accuracy"] > 0.9
