from __future__ import annotations

import numpy as np
from benchmarks.check_noise import confidently_wrong, hits


def test_confident_learnings_rule_by_hand():
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]]
    )
    # thresholds: 0.7, 0.45, 0.4
    assert confidently_wrong(probabilities, np.array([0, 0, 1, 1, 2])).tolist() == [2]


def test_precision_and_recall():
    assert hits(np.array([True, True, False, False]), np.array([0, 2])) == (0.5, 0.5)
