from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.config import build_config, resolve_sizes


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs"),
    [(20, 8, 20), (499, 8, 6), (932, 16, 7), (4999, 16, 3), (5000, 32, 3), (100_000, 32, 3)],
)
def test_small_data_gets_smaller_steps_and_more_epochs(rows, batch_size, epochs):
    sizes = resolve_sizes(build_config({}), rows)
    assert (sizes.batch_size, sizes.epochs) == (batch_size, epochs)


@given(st.integers(1, 10**6), st.integers(1, 512), st.integers(0, 50))
def test_what_the_user_says_is_kept(rows, batch_size, epochs):
    sizes = resolve_sizes(build_config({"batch_size": batch_size, "epochs": epochs, "seed": 5}), rows)
    assert (sizes.batch_size, sizes.epochs, sizes.seed) == (batch_size, epochs, 5)
