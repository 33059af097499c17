"""Figures that compare two sets of probabilities."""

from __future__ import annotations

import numpy as np

from sortal.evaluation.decision import Decision
from sortal.exporting.agreement import compare

SINGLE = Decision("single", 1.0, None, None)


def test_differences_are_the_largest_of_a_row():
    ours = np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]])
    theirs = np.array([[0.69, 0.31], [0.55, 0.45], [0.5, 0.5]])
    found = compare(ours, theirs, SINGLE)
    assert (found.rows, found.agreeing, found.worst) == (3, 2, 1)
    np.testing.assert_allclose([found.largest, found.mean], [0.15, 0.16 / 3])


def test_several_labels_agree_when_the_whole_set_does_at_its_thresholds():
    decision = Decision("multi", 1.0, (0.2, 0.9), None)
    ours, theirs = np.array([[0.25, 0.5], [0.1, 0.95]]), np.array([[0.3, 0.8], [0.1, 0.85]])
    assert compare(ours, theirs, decision).agreeing == 1


def test_abstaining_is_a_decision():
    decision = Decision("single", 1.0, None, 0.6)
    assert compare(np.array([[0.61, 0.39]]), np.array([[0.59, 0.41]]), decision).agreeing == 0


def test_what_is_not_a_number_is_infinitely_far():
    found = compare(np.array([[0.5, 0.5]]), np.array([[np.nan, 0.5]]), SINGLE)
    assert found.largest == np.inf
