"""Resuming continues every global random stream (F1)."""

import random

import numpy as np
import pytest
import torch

from sortal.errors import CheckpointError
from sortal.training.checkpoints import CheckpointStore
from sortal.training.random_state import restore_rng, rng_tensors


def draw():
    # One normal deviate each, so that the second of the pair is kept inside the generators.
    return (
        torch.rand(3).tolist(),
        np.random.standard_normal(),
        np.random.rand(2).tolist(),
        random.gauss(0, 1),
        random.random(),
    )


@pytest.mark.parametrize("draws_before", [0, 1, 2])
def test_every_stream_continues_where_it_was(tmp_path, draws_before):
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    for _ in range(draws_before):
        draw()
    CheckpointStore(tmp_path).save(1, rng_tensors(), {})
    expected = [draw(), draw()]
    torch.manual_seed(9)
    np.random.seed(9)
    random.seed(9)
    random.gauss(0, 1)
    np.random.standard_normal()
    restore_rng(CheckpointStore(tmp_path).latest(pytest.fail).load()[0])
    assert [draw(), draw()] == expected


def test_a_missing_stream_is_an_error_and_not_a_new_seed():
    tensors = rng_tensors()
    del tensors["rng/numpy"]
    with pytest.raises(CheckpointError, match="rng/numpy"):
        restore_rng(tensors)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_cuda_stream_continues():
    torch.cuda.manual_seed_all(5)
    saved = rng_tensors()
    expected = torch.rand(4, device="cuda")
    torch.rand(4, device="cuda")
    restore_rng(saved)
    assert torch.equal(torch.rand(4, device="cuda"), expected)
