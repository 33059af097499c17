import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.evaluation.holm import holm


def test_the_textbook_example():
    # H4 0.005, H1 0.01, H3 0.03, H2 0.04 are multiplied by 4, 3, 2, 1; the last is raised to the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_corrected_values_keep_the_order_and_lie_between_p_and_bonferroni(p):
    adjusted = np.array(holm(p))
    p = np.array(p)
    assert ((adjusted >= p) & (adjusted <= np.minimum(1, p * len(p) + 1e-12))).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert holm(p[::-1]) == pytest.approx(adjusted[::-1])


def test_any_false_winner_among_six_true_nulls_is_rare():
    p = np.random.default_rng(0).random((4000, 6))
    assert np.mean([min(holm(row)) <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.01)
