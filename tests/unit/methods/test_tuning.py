from __future__ import annotations

import numpy as np
import pytest

from sortal.config import build_config
from sortal.data.labels import LabelSpace
from sortal.methods.tuning import dev_figures


@pytest.mark.parametrize("metric", ["f1_macro", "f1_micro", "accuracy", "loss"])
@pytest.mark.parametrize("task", ["single", "multi"])
def test_the_metric_that_chooses_weights_is_higher_for_better_scores(task, metric):
    space = LabelSpace(("a", "b"), task)
    gold = np.array([0, 1, 1, 0]) if task == "single" else np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    right = np.eye(2)[gold] if task == "single" else gold
    good = (4.0 * right - 2.0).astype(np.float32)
    config = build_config({"metric_for_best_model": metric})
    better, worse = (dev_figures(s, gold, space, config) for s in (good, -good))
    assert better["metric"] > worse["metric"]
    assert better[metric] == (-better["metric"] if metric == "loss" else better["metric"])
