from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch

from sortal.training import budget
from sortal.training.budget import (
    bytes_per_token,
    ceiling,
    default_max_tokens,
    free_memory,
    is_out_of_memory,
    peak_memory,
)

CPU = torch.device("cpu")
SMALL = SimpleNamespace(hidden_size=64, intermediate_size=128, num_hidden_layers=2)
LARGE = SimpleNamespace(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32)


def _free(monkeypatch, free):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))


def test_bytes_grow_with_layers_width_and_dtype():
    base = bytes_per_token(SMALL, torch.bfloat16)
    assert bytes_per_token(SMALL, torch.float32) == 2 * base
    deeper = SimpleNamespace(**{**vars(SMALL), "num_hidden_layers": 6})
    assert bytes_per_token(deeper, torch.bfloat16) == 3 * base
    wider = SimpleNamespace(**{**vars(SMALL), "intermediate_size": 256})
    assert bytes_per_token(wider, torch.bfloat16) > base


def test_a_config_without_an_mlp_size_counts_four_times_the_hidden_size():
    gpt2 = SimpleNamespace(hidden_size=64, num_hidden_layers=2, intermediate_size=None)
    assert bytes_per_token(gpt2, torch.float32) == bytes_per_token(
        SimpleNamespace(hidden_size=64, num_hidden_layers=2, intermediate_size=256), torch.float32
    )


def test_the_budget_takes_half_of_the_free_memory(monkeypatch):
    each = bytes_per_token(LARGE, torch.bfloat16)
    _free(monkeypatch, 2 * 1000 * each)
    assert default_max_tokens(LARGE, torch.bfloat16, CPU) == 1000
    _free(monkeypatch, 4 * 600 * each)
    assert default_max_tokens(LARGE, torch.float32, CPU) == 600


@pytest.mark.parametrize(("flags", "most"), [({"avx2"}, 2048), ({"avx512_bf16", "amx_bf16"}, 4096)])
def test_the_budget_has_a_floor_and_a_ceiling_and_the_processor_sets_that_of_steps(monkeypatch, flags, most):
    monkeypatch.setattr(budget, "cpu_flags", lambda: frozenset(flags))
    _free(monkeypatch, 1)
    assert default_max_tokens(LARGE, torch.float32, CPU) == 256
    _free(monkeypatch, 1 << 50)
    assert default_max_tokens(SMALL, torch.float32, CPU) == 2048
    assert ceiling(CPU) == most


CUDA = torch.device("cuda")


def _card(monkeypatch, free, total, reserved=0, allocated=0, share=1.0):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, total))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda index: share)


def test_cuda_asks_the_device(monkeypatch):
    each = bytes_per_token(LARGE, torch.bfloat16)
    _card(monkeypatch, 2 * 3000 * each, 1 << 40)
    assert default_max_tokens(LARGE, torch.bfloat16, CUDA) == 3000


def test_what_the_allocator_keeps_unused_is_free_and_a_share_of_the_card_is_a_limit(monkeypatch):
    _card(monkeypatch, 30, 100, reserved=50, allocated=20)
    assert free_memory(CUDA) == 60, "30 of the card and 30 that the allocator kept"
    _card(monkeypatch, 30, 100, reserved=50, allocated=20, share=0.5)
    assert free_memory(CUDA) == 30
    _card(monkeypatch, 30, 100, reserved=50, allocated=20, share=0.1)
    assert free_memory(CUDA) == 0


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, memory):
    assert is_out_of_memory(error) is memory


def test_the_real_message_of_the_cpu_allocator_is_recognised():
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


def test_peak_memory_is_at_least_what_is_held_now():
    held = torch.ones(30 << 20, dtype=torch.uint8)
    assert peak_memory(CPU) >= 0.9 * psutil.Process().memory_info().rss
    assert held.numel() < peak_memory(CPU)
