from __future__ import annotations

import numpy as np
import pytest

from sortal.checks.twins import Twins
from sortal.comparison.twins import without_twins
from sortal.evaluation.predictions import Predictions


@pytest.mark.parametrize(("remaining", "enough"), [(29, False), (30, True)])
def test_few_rows_without_a_twin_have_a_figure_and_as_everywhere_in_a_comparison_no_interval(
    remaining, enough
):
    n = remaining + 11
    gold = np.arange(n) % 2
    predicted = np.where(np.arange(n) % 5 == 0, 1 - gold, gold)
    run = Predictions(
        ("a", "b"), "single", [str(row) for row in range(n)], gold, predicted, np.eye(2)[predicted]
    )
    rows = np.arange(11)
    twins = Twins(rows, rows * 0, rows, np.ones(11), rows >= 0, True)
    found = without_twins(twins, n, {"tfidf": [run]}, "accuracy", 100, seed=0)
    assert found.n == remaining
    assert found.values["tfidf"] == pytest.approx((gold == predicted)[11:].mean())
    assert (found.intervals["tfidf"] is not None) == enough
    assert (found.added_intervals["tfidf"] is not None) == enough
