"""One process alone, and the arithmetic of several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sortal.training.distributed import Processes, processes

CPU = torch.device("cpu")


@given(examples=st.integers(0, 40), world=st.integers(1, 5))
def test_the_processes_share_every_example_once_and_evenly(examples, world):
    indices = np.random.default_rng(0).permutation(examples)
    parts = [Processes(rank, world, CPU).share(indices) for rank in range(world)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(examples))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_alone_everything_is_as_it_is():
    alone = Processes(0, 1, CPU)
    tensor = torch.tensor([1.0, 2.0])
    alone.sum_([tensor])
    assert tensor.tolist() == [1.0, 2.0]
    assert alone.any(True)
    assert not alone.any(False)
    assert alone.share_object({"a": 1}) == {"a": 1}
    alone.barrier()
    assert alone.main


def test_only_rank_zero_is_the_main_process():
    assert [Processes(rank, 3, CPU).main for rank in range(3)] == [True, False, False]


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    found = processes()
    assert (found.rank, found.world) == (0, 1)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("wanted", "kind"), [("cpu", "cpu"), (None, "cuda")])
def test_the_device_is_the_gpu_unless_the_cpu_is_asked_for(monkeypatch, wanted, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if wanted:
        monkeypatch.setenv("SORTAL_DEVICE", wanted)
    else:
        monkeypatch.delenv("SORTAL_DEVICE", raising=False)
    assert processes().device.type == kind


def test_sums_keep_shapes_and_dtypes(monkeypatch):
    messages = []

    def double(flat: torch.Tensor) -> None:
        messages.append(flat.clone())
        flat.mul_(2)

    monkeypatch.setattr(torch.distributed, "all_reduce", double)
    tensors = [torch.ones(2, 3), torch.tensor(3.0), torch.full((2,), 0.5, dtype=torch.bfloat16)]
    Processes(0, 2, CPU).sum_(iter(tensors))
    assert len(messages) == 1, "one message for all"
    assert [tensor.shape for tensor in tensors] == [(2, 3), (), (2,)]
    assert [tensor.dtype for tensor in tensors] == [torch.float32, torch.float32, torch.bfloat16]
    assert [tensor.reshape(-1).tolist() for tensor in tensors] == [[2.0] * 6, [6.0], [1.0, 1.0]]
