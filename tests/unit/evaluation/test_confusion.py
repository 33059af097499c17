from __future__ import annotations

import numpy as np
from sklearn.metrics import confusion_matrix

from sortal.evaluation.confusion import Confusion, examples
from sortal.evaluation.predictions import Predictions


def single(gold, predicted, n_labels=3, probabilities=None):
    n = len(gold)
    p = np.full((n, n_labels), 1 / n_labels) if probabilities is None else np.array(probabilities)
    names = tuple(f"l{k}" for k in range(n_labels))
    return Predictions(names, "single", [str(i) for i in range(n)], np.array(gold), np.array(predicted), p)


def test_counts_of_one_label_per_row_are_the_confusion_matrix_without_abstentions():
    gold, predicted = [0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 0, -1]
    found = Confusion.build(single(gold, predicted))
    answered = np.array(predicted) >= 0
    expected = confusion_matrix(np.array(gold)[answered], np.array(predicted)[answered])
    assert (found.among(np.arange(3)) == expected).all()
    assert found.errors == 3
    assert found.pairs(5) == [(2, 0, 2), (0, 1, 1)]


def test_with_several_labels_a_pair_is_one_missed_and_one_wrongly_given_in_the_same_row():
    gold = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]], np.uint8)
    predicted = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]], np.uint8)
    found = Confusion.build(
        Predictions(("a", "b", "c"), "multi", ["0", "1", "2"], gold, predicted, predicted * 1.0)
    )
    # Row 0 takes b for c; row 1 only misses a; row 2 only adds b.
    assert found.among(np.arange(3)).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert found.errors == 1


def test_the_shown_labels_are_those_of_the_most_frequent_pairs():
    gold = [0] * 5 + [3] * 4 + [1]
    predicted = [4] * 5 + [2] * 4 + [0]
    found = Confusion.build(single(gold, predicted, n_labels=6))
    assert found.most_confused(2).tolist() == [0, 4]
    assert found.most_confused(4).tolist() == [0, 2, 3, 4]
    assert found.most_confused(6).tolist() == [0, 1, 2, 3, 4, 5]


def test_the_example_of_a_pair_is_its_surest_mistake():
    p = [[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.8, 0.2]]
    run = single([0, 0, 1, 1], [1, 1, 1, 0], 2, p)
    assert examples(run, [(0, 1, 2), (1, 0, 1)]) == [1, 3]
