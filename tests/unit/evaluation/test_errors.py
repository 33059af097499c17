from __future__ import annotations

import numpy as np

from sortal.evaluation.errors import confident_mistakes, conviction, missed_by_all, slices, wrong
from sortal.evaluation.predictions import Predictions

NAMES = ("a", "b", "c")


def single(predicted, gold, sure):
    """Predictions whose chosen label has probability ``sure``; the rest is shared by the others."""
    probabilities = np.full((len(gold), 3), 0.0)
    for row, (label, p) in enumerate(zip(predicted, sure, strict=True)):
        probabilities[row] = (1 - p) / 2
        probabilities[row, label] = p
    ids = [str(i) for i in range(len(gold))]
    return Predictions(NAMES, "single", ids, np.array(gold), np.array(predicted), probabilities)


GOLD = [0, 1, 2, 0]
ONE = single([1, 1, 0, 2], GOLD, [0.6, 0.9, 0.95, 0.8])
TWO = single([1, 0, 0, 0], GOLD, [0.7, 0.9, 0.9, 0.8])


def test_only_what_every_run_misses_is_listed_and_the_surest_first():
    assert missed_by_all([ONE, TWO]).tolist() == [2, 0]
    assert missed_by_all([ONE]).tolist() == [2, 3, 0]
    assert missed_by_all([]).tolist() == []
    right = single(GOLD, GOLD, [0.9] * 4)
    assert missed_by_all([ONE, right]).tolist() == []


def test_confident_mistakes_are_wrong_and_sorted_by_how_far_the_gold_label_is_behind():
    assert confident_mistakes(ONE).tolist() == [2, 3, 0]
    np.testing.assert_allclose(conviction(ONE), [0.6 - 0.2, 0.0, 0.95 - 0.025, 0.8 - 0.1])


def test_an_abstention_is_wrong_and_not_confident():
    abstained = single([0, 1, 2, 0], GOLD, [0.4] * 4)
    abstained.predicted[0] = -1
    assert wrong(abstained).tolist() == [True, False, False, False]
    assert conviction(abstained)[0] == 0.0


def test_with_several_labels_one_wrong_label_makes_a_row_wrong():
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], np.uint8)
    predicted = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]], np.uint8)
    p = np.array([[0.9, 0.1, 0.2], [0.9, 0.3, 0.1], [0.1, 0.2, 0.9]])
    run = Predictions(NAMES, "multi", ["0", "1", "2"], gold, predicted, p)
    assert wrong(run).tolist() == [False, True, True]
    np.testing.assert_allclose(conviction(run), [0.2, 0.7, 0.9])
    assert confident_mistakes(run).tolist() == [2, 1]
    found = {
        s.name: s for s in slices({"m": [run]}, "f1_micro", ["a", "a a", "a a a"], np.array([200, 7, 3]))
    }
    assert found["no label"].rows == 1
    assert found["label with 6–20 training rows"].rows == 1, "a row counts with its rarest label"
    assert found["label with over 100 training rows"].values["m"] == 1.0


def test_slices_hold_every_row_once_per_kind_and_the_metric_of_those_rows_alone():
    words, counts = ["a " * n for n in (3, 10, 30, 4)], np.array([500, 50, 2])
    found = {s.name: s for s in slices({"one": [ONE], "both": [ONE, TWO]}, "accuracy", words, counts)}
    by_length = [s for name, s in found.items() if "words" in name]
    assert sum(s.rows for s in by_length) == 4
    assert [s.rows for name, s in found.items() if "training rows" in name] == [1, 1, 2]
    assert found["label with over 100 training rows"].values == {"one": 0.0, "both": 0.25}
    assert found["label with 21–100 training rows"].values == {"one": 1.0, "both": 0.5}
    assert found["label with 1–5 training rows"].values == {"one": 0.0, "both": 0.0}
    assert {s.name: (s.rows, s.values["one"]) for s in by_length} == {
        "up to 4 words": (2, 0.0),
        "5 to 10 words": (1, 1.0),
        "over 10 words": (1, 0.0),
    }


def test_macro_f1_of_a_slice_is_over_the_labels_that_occur_in_it():
    (few, many) = slices({"one": [ONE]}, "f1_macro", ["a"] * 4, np.array([500, 50, 500]))[1:]
    assert (few.name, few.values["one"]) == ("label with 21–100 training rows", 1.0)
    assert (many.rows, many.values["one"]) == (3, 0.0)


def test_texts_of_one_length_make_one_slice():
    found = slices({"one": [ONE]}, "accuracy", ["a " * 7] * 4, np.array([500, 500, 500]))
    assert [s.name for s in found] == ["up to 7 words", "label with over 100 training rows"]


def test_scripts_with_enough_rows_are_told_apart():
    gold = [0] * 70
    run = single([0] * 40 + [1] * 30, gold, [0.9] * 70)
    counts = np.array([500, 500, 500])

    def found(texts):
        parts = slices({"one": [run]}, "accuracy", texts, counts)
        return {s.name: (s.rows, s.values["one"]) for s in parts if "script" in s.name}

    russian, english = "Где мой заказ? Order 5", "Where is my order? Заказ"
    assert found([english] * 40 + [russian] * 30) == {"Latin script": (40, 1.0), "Cyrillic script": (30, 0.0)}
    assert found([english] * 41 + [russian] * 29) == {}, "29 rows say too little"
    assert found([english] * 40 + ["12 :-)"] * 30) == {}, "no letters are no script"
