from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sortal.training.distributed import Processes
from sortal.training.order import epoch_order, most_tokens


def test_every_epoch_has_every_example_once_in_an_order_of_its_own():
    orders = [epoch_order(50, 3, epoch) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert not np.array_equal(*orders)
    assert np.array_equal(orders[1], epoch_order(50, 3, 1))


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("n", [1, 8, 61])
def test_the_largest_part_of_a_step_is_that_of_the_steps_themselves(n, world):
    lengths = np.random.default_rng(0).integers(1, 90, n)
    config = SimpleNamespace(batch_size=8, epochs=3, seed=5)
    for rank in range(world):
        here = Processes(rank, world, torch.device("cpu"))
        orders = [epoch_order(n, 5, epoch) for epoch in range(3)]
        parts = [here.share(order[start : start + 8]) for order in orders for start in range(0, n, 8)]
        expected = max(int(lengths[part].sum()) for part in parts)
        assert most_tokens(lengths, config, here) == (expected or lengths.max())
