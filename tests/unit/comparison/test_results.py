from __future__ import annotations

import numpy as np
import pytest

from sortal.comparison.results import summaries
from sortal.evaluation.predictions import Predictions


def run(predicted, gold):
    ids = [str(row) for row in range(len(gold))]
    return Predictions(("a", "b"), "single", ids, gold, predicted, np.eye(2)[predicted])


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("metric", ["accuracy", "f1_micro"])
def test_a_method_without_a_wrong_row_is_not_certain_to_have_none(metric, seeds):
    gold = np.arange(40) % 2
    records = [{"method": "tfidf", "status": "finished", "device": "x", "metrics": {}, "cost": {}}] * seeds
    for predicted, value, interval in (
        (gold, 1.0, [0.025 ** (1 / 40), 1.0]),
        (1 - gold, 0.0, [0.0, 1 - 0.025 ** (1 / 40)]),
    ):
        (found,), _ = summaries({"tfidf": [run(predicted, gold)] * seeds}, records, metric, 100, seed=0)
        assert (found.value, found.interval) == (value, pytest.approx(interval))


def test_what_a_method_costs_is_told_of_one_device():
    gold = np.arange(40) % 2
    made = [("gpu", 10.0), ("cpu", 1000.0), ("gpu", 20.0)]
    records = [
        {
            "method": "head",
            "status": "finished",
            "device": device,
            "metrics": {"ece": seconds / 1000},
            "cost": {"train_seconds": seconds},
        }
        for device, seconds in made
    ]
    (found,), _ = summaries({"head": [run(gold, gold)] * 3}, records, "accuracy", 100, seed=0)
    assert found.cost == {"train_seconds": 15.0}
    assert found.quality == {"ece": pytest.approx(1.03 / 3)}
