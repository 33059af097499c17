from __future__ import annotations

import numpy as np
import pytest
import torch

from sortal.backbone.packing import pack
from sortal.backbone.pooling import padded, pool
from tiny_runs import random_rows

LENGTHS = (5, 1, 9, 3)


@pytest.fixture
def rows():
    return pack(random_rows(*LENGTHS))


@pytest.fixture
def states():
    return torch.randn(sum(LENGTHS), 8, generator=torch.Generator().manual_seed(0))


def pieces(states):
    return states.split(list(LENGTHS))


def test_last_is_the_final_tokens_state(rows, states):
    expected = torch.stack([piece[-1] for piece in pieces(states)])
    assert torch.equal(pool(states, rows, "last", skip=3), expected)


@pytest.mark.parametrize("skip", [0, 2, 4, 50])
def test_a_mean_leaves_out_the_beginning_but_never_the_final_token(rows, states, skip):
    expected = torch.stack([piece[min(skip, len(piece) - 1) :].mean(0) for piece in pieces(states)])
    torch.testing.assert_close(pool(states, rows, "mean", skip), expected, rtol=1e-6, atol=1e-6)


def test_a_mean_of_half_precision_states_is_taken_in_fp32(rows):
    states = torch.full((sum(LENGTHS), 2), 1 + 2**-7, dtype=torch.bfloat16)
    found = pool(states, rows, "mean")
    assert found.dtype == torch.float32
    assert torch.equal(found, states[: len(LENGTHS)].float())


def test_gradients_of_a_mean_reach_counted_tokens_alike(rows, states):
    states.requires_grad_()
    pool(states, rows, "mean", skip=2).sum().backward()
    for piece, n in zip(pieces(states.grad), LENGTHS, strict=True):
        first = min(2, n - 1)
        assert not piece[:first].any()
        torch.testing.assert_close(piece[first:], torch.full_like(piece[first:], 1 / (n - first)))


def test_real_cells_of_padded_rows_are_the_pack_in_its_order(rows):
    ids, real = padded(rows, pad_id=-1)
    assert ids.shape == (len(LENGTHS), max(LENGTHS))
    assert torch.equal(ids[real], rows.input_ids[0])
    assert (ids[~real] == -1).all()
    assert np.array_equal(real.sum(1).numpy(), LENGTHS)
