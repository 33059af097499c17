from __future__ import annotations

import torch

from sortal.training.held_bytes import HeldBytes


def test_what_lives_at_one_time_is_counted_once():
    with HeldBytes() as held:
        first = torch.ones(1000)
        view = first[:10]
        del first
        second = torch.ones(500)
        del view, second
        third = torch.ones(1200)
    del third
    assert held.peak == 4 * 1500


def test_views_and_results_in_place_of_what_was_there_before_take_nothing():
    before = torch.ones(1000)
    with HeldBytes() as held:
        before.add_(1).view(10, 100).t()
        assert held.peak == 0
        torch.add(before, 1)
    assert held.peak == 4000


def test_saved_tensors_and_gradients_count():
    x = torch.ones(1000, requires_grad=True)
    with HeldBytes() as held:
        y = x.exp().sin()  # keeps exp(x), for both
        assert held.peak == 8000
        y.sum().backward()
    assert held.peak >= 4 * 3000


def test_products_get_their_memory_without_being_computed():
    a, b = torch.ones(2, 3, 4), torch.ones(2, 4, 5)
    with HeldBytes() as held:
        assert (a @ b).shape == (2, 3, 5)
        assert held.peak == 2 * 3 * 5 * 4
        assert torch.nn.functional.linear(a, torch.ones(6, 4)).shape == (2, 3, 6)
        assert torch.addmm(torch.ones(5), a[0], b[0]).shape == (3, 5)
        out = torch.ones(3, 5)
        assert out.addmm_(a[0], b[0]) is out
