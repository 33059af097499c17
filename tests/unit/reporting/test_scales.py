from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.reporting.svg.scales import Scale, padded


def scale(low, high, log=False):
    return Scale(low, high, "x", str, log)


def test_linear_and_logarithmic_places():
    assert scale(10, 20).share(12.5) == 0.25
    assert scale(1, 10_000, log=True).share(100) == pytest.approx(0.5)
    assert scale(0, 1).share(7) == 1
    assert scale(0, 1).share(-7) == 0


def test_ticks_are_round_and_inside():
    assert scale(0, 1).ticks(5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert scale(0.903, 0.918).ticks(5) == [0.905, 0.91, 0.915]
    assert scale(0.5, 2000, log=True).ticks() == [1, 10, 100, 1000]
    assert scale(20, 45, log=True).ticks(3) == [20, 30, 40]
    assert len(scale(28, 31, log=True).ticks()) >= 2


@given(st.floats(1e-3, 1e6), st.floats(1.001, 1e6), st.booleans())
def test_every_range_has_a_few_ticks_within_it(low, ratio, log):
    low, high = padded([low, low * ratio], log)
    ticks = scale(low, high, log).ticks(5)
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    assert all(low - 1e-9 * high <= tick <= high * (1 + 1e-9) for tick in ticks)


@pytest.mark.parametrize("log", [False, True])
def test_a_single_value_still_has_a_range_around_it(log):
    low, high = padded([3.0, 3.0], log)
    assert low < 3 < high
