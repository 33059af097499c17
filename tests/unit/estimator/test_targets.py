"""y in the forms that people have it in, and back again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from sortal.errors import InputError
from sortal.estimator.answers import read_answers
from sortal.estimator.targets import Targets

MATRIX = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])


def learn(y):
    answers = read_answers(y, len(y) if not hasattr(y, "shape") else y.shape[0])
    targets = Targets.learn(answers)
    return targets, targets.labels(answers)


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
@pytest.mark.parametrize(
    ("y", "classes", "names"),
    [
        (["b", "a", "b"], ["a", "b"], ("a", "b")),
        (("b", "a", "b"), ["a", "b"], ("a", "b")),
        (np.array(["b", "a", "b"]), ["a", "b"], ("a", "b")),
        (pd.Series(["b", "a", "b"]), ["a", "b"], ("a", "b")),
        (pd.Series(["b", "a", "b"], dtype="category"), ["a", "b"], ("a", "b")),
        (pd.DataFrame({"kind": ["b", "a", "b"]}), ["a", "b"], ("a", "b")),
        ([10, 9, 10], [9, 10], ("9", "10")),
        (np.array([10, 9, 10], np.int8), [9, 10], ("9", "10")),
        (np.array([10, 9, 10], object), [9, 10], ("9", "10")),
        (["10", "9", "10"], ["10", "9"], ("10", "9")),
        ([True, False, True], [False, True], ("false", "true")),
        ([2.0, 1.0, 2.0], [1.0, 2.0], ("1", "2")),
        ([" a", "a", " a"], [" a", "a"], (" a", "a")),
    ],
)
def test_one_label_per_row_comes_back_as_it_was(y, classes, names):
    targets, labels = learn(y)
    assert targets.task == "single"
    assert targets.names == names
    assert targets.classes.tolist() == classes
    back = targets.decode([row[0] for row in labels])
    assert back.tolist() == np.ravel(np.asarray(y)).tolist()
    assert type(back[0]) is type(targets.classes[0])


def test_classes_keep_the_type_of_an_array():
    assert learn(np.array([3, 1], np.int16))[0].classes.dtype == np.int16
    assert learn(np.array(["b", "a"], object))[0].classes.dtype == object
    assert learn(np.array(["b", "a"]))[0].classes.dtype.kind == "U"


@pytest.mark.parametrize("form", [np.array, csr_array, lambda m: m.tolist(), list, pd.DataFrame])
def test_an_indicator_matrix_comes_back_as_one(form):
    targets, labels = learn(form(MATRIX))
    assert targets.task == "multi"
    assert targets.classes.tolist() == [0, 1, 2]
    assert labels == [("0",), ("1", "2"), ()]
    np.testing.assert_array_equal(targets.decode(labels), MATRIX)


def test_the_columns_of_a_data_frame_are_the_labels():
    targets, labels = learn(pd.DataFrame(MATRIX, columns=["late", "lost", "broken"]))
    assert targets.names == ("late", "lost", "broken")
    assert labels[1] == ("lost", "broken")
    assert targets.labels(read_answers(MATRIX, 3)) == labels


@pytest.mark.parametrize(
    "y",
    [
        [["b"], ["a", "c"], []],
        [{"b"}, ("c", "a"), frozenset()],
        pd.Series([["b"], ["a", "c"], []]),
        [np.array(["b"]), ["a", "c", "a"], []],
    ],
)
def test_lists_of_labels_come_back_as_tuples_in_label_order(y):
    targets, labels = learn(y)
    assert targets.classes.tolist() == ["a", "b", "c"]
    assert [set(row) for row in labels] == [{"b"}, {"a", "c"}, set()]
    assert targets.decode([tuple(sorted(row)) for row in labels]) == [("b",), ("a", "c"), ()]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([[7], [3, 7], []], [3, 7]),
        ([[7, 9], [3, 7], [3, 9]], [3, 7, 9]),
        ([["a"], ["b"], ["a"]], ["a", "b"]),
        ([["a", "b"], ["b", "c"], ["a", "c"]], ["a", "b", "c"]),
        ([(0, 1), (1,), ()], [0, 1]),
    ],
)
def test_lists_that_are_no_matrix_of_0_and_1_are_labels(y, classes):
    targets, labels = learn(y)
    assert targets.task == "multi"
    assert targets.classes.tolist() == classes
    assert targets.decode(labels) == [tuple(row) for row in y]


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        (None, "requires y to be passed, but the target y is None"),
        (["a", None, "b"], r"no label in row 2\n→ label these rows"),
        ([1.0, float("nan"), 2.0], "no label in row 2"),
        (pd.Series(["a", pd.NA, "b"]), "no label in row 2"),
        ([0.1, 0.2, 0.3], "continuous"),
        ([1, "a", 2], "mixes labels of the types 'int', 'str'"),
        (["a", "a", "a"], "y has 1 class, 'a'"),
        (["a", "b"], "y has 2 rows, and X 3"),
        (["a", "", "b"], "y holds an empty label"),
        ([["a"], [""], []], "y holds an empty label"),
        ([["a"], "b", []], r"y, row 2: 'b' is no list of labels\n→ give a list"),
        ([["a"], None, []], "y, row 2: None is no list"),
        ([["a"], ["b", None], []], "y, row 2: .* is no list"),
        (np.array([[1, 2], [3, 4], [5, 6]]), "is no matrix of 0 and 1"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(y, reason):
    with pytest.raises(ValueError, match=reason):
        Targets.learn(read_answers(y, 3))


def test_another_form_than_at_fit_is_refused():
    single, several = learn(["a", "b"])[0], learn(MATRIX)[0]
    with pytest.raises(InputError, match="y has a column per label, and the y of fit had one label per row"):
        single.labels(read_answers(MATRIX, 3))
    with pytest.raises(InputError, match="one label per row, and the y of fit had a column per label"):
        several.labels(read_answers(["a", "b"], 2))
    with pytest.raises(InputError, match="y has 2 columns, and there are 3 labels"):
        several.labels(read_answers(MATRIX[:, :2], 3))


def test_named_columns_in_another_order_or_of_other_labels_are_refused():
    frame = pd.DataFrame(MATRIX, columns=["late", "lost", "broken"])
    targets, labels = learn(frame)
    for other in (frame[["lost", "late", "broken"]], frame.rename(columns={"lost": "gone"})):
        with pytest.raises(
            InputError, match=r"the columns of y are 'l.*, and those of fit were 'late', 'lost'"
        ):
            targets.labels(read_answers(other, 3))
    assert targets.labels(read_answers(frame, 3)) == labels
    unnamed = learn(MATRIX)[0]
    assert unnamed.labels(read_answers(frame, 3)) == [("0",), ("1", "2"), ()], "nothing says which is which"


def test_no_answer_is_none_among_labels():
    targets, _ = learn([1, 2])
    assert targets.decode(["2", None, "1"]).tolist() == [2, None, 1]
    assert targets.decode([]).tolist() == []


@given(
    st.one_of(
        st.lists(st.text("abÄ1 ", min_size=1, max_size=3), min_size=2),
        st.lists(st.integers(-(2**62), 2**62), min_size=2),
    )
)
@pytest.mark.filterwarnings("ignore:The number of unique classes", "ignore:invalid value")
def test_any_labels_survive_the_way_through_strings(y):
    if len(set(y)) < 2:
        return
    targets, labels = learn(y)
    assert targets.classes.tolist() == sorted(set(y))
    assert targets.decode([row[0] for row in labels]).tolist() == y


@given(st.lists(st.sets(st.text("abc", min_size=1, max_size=2)), min_size=1))
def test_any_sets_of_labels_survive_it_too(y):
    targets, labels = learn(y)
    assert [set(row) for row in targets.decode(labels)] == y
