from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.training.schedule import factor

KINDS = ("constant", "linear", "cosine")


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_rises_linearly_over_the_warmup_and_reaches_the_peak(kind):
    assert [factor(step, 100, 4, kind) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(4, 100, 4, kind) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_warmup_the_first_step_has_the_peak_rate(kind):
    assert factor(0, 10, 0, kind) == 1.0


def test_linear_and_cosine_fall_to_zero_and_are_half_way_in_the_middle():
    for kind in ("linear", "cosine"):
        assert factor(55, 100, 10, kind) == pytest.approx(0.5)
        assert factor(100, 100, 10, kind) == pytest.approx(0.0)
    assert factor(20, 100, 0, "cosine") > factor(20, 100, 0, "linear"), "cosine is slower at first"


def test_constant_stays():
    assert factor(99, 100, 10, "constant") == 1.0


@given(st.sampled_from(KINDS), st.integers(1, 500), st.floats(0, 0.99))
def test_every_step_of_a_run_trains_and_none_above_the_peak(kind, total, ratio):
    warmup = int(ratio * total)
    factors = [factor(step, total, warmup, kind) for step in range(total)]
    assert all(0 < f <= 1 for f in factors)
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert factors[:warmup] == sorted(factors[:warmup])
