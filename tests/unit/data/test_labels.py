from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import DataError

NAMES = st.lists(
    st.text(min_size=1, max_size=8).filter(lambda name: name.strip()), min_size=2, max_size=12, unique=True
)


@given(NAMES, st.sampled_from(["single", "multi"]), st.randoms())
def test_order_does_not_depend_on_the_order_of_rows_and_survives_json(names, task, shuffler):
    rows = [(name,) for name in names]
    space = LabelSpace.from_labels(rows, task)
    shuffler.shuffle(rows)
    assert LabelSpace.from_labels(rows, task) == space
    assert LabelSpace.from_json(json.loads(json.dumps(space.to_json()))) == space
    assert sorted(space.names) == sorted(names)


@given(NAMES, st.data())
def test_single_label_round_trip(names, data):
    space = LabelSpace.from_labels([(name,) for name in names], "single")
    rows = data.draw(st.lists(st.sampled_from(names).map(lambda name: (name,)), max_size=20))
    positions = space.encode_single(rows)
    assert positions.dtype == np.int64
    assert [(name,) for name in space.decode_single(positions)] == rows


@given(NAMES, st.data())
def test_multi_label_round_trip_with_empty_rows(names, data):
    space = LabelSpace.from_labels([(name,) for name in names], "multi")
    rows = data.draw(st.lists(st.lists(st.sampled_from(names), unique=True).map(tuple), max_size=20))
    matrix = space.encode_multi(rows)
    assert matrix.shape == (len(rows), len(names))
    assert matrix.dtype == np.uint8
    assert [set(row) for row in space.decode_multi(matrix)] == [set(row) for row in rows]
    assert (space.encode_multi(space.decode_multi(matrix)) == matrix).all()


def test_numbers_sort_by_value_and_before_words():
    rows = [(name,) for name in ("10", "b", "2", "-1", "1.5", "é", "a")]
    assert LabelSpace.from_labels(rows, "multi").names == ("-1", "1.5", "2", "10", "a", "b", "é")


def test_given_order_is_kept_with_labels_that_do_not_occur():
    assert LabelSpace.from_labels([("b",)], "single", order=["z", "b", "a"]).names == ("z", "b", "a")
    with pytest.raises(DataError, match="'c' is not among the given labels"):
        LabelSpace.from_labels([("c",)], "single", order=["z", "b"])


def test_abstained_position_decodes_to_none():
    assert LabelSpace(("a", "b"), "single").decode_single(np.array([1, -1])) == ["b", None]


def test_one_class_cannot_be_trained_in_a_single_label_task_but_can_in_a_multi_label_one():
    with pytest.raises(DataError, match="every row has the label 'x'"):
        LabelSpace.from_labels([("x",), ("x",)], "single")
    assert LabelSpace.from_labels([("x",), ()], "multi").encode_multi([("x",), ()]).tolist() == [[1], [0]]


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a", "")])
def test_impossible_names_are_refused(names):
    with pytest.raises(DataError):
        LabelSpace(names, "multi")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"names": "ab", "task": "single"},
        {"names": ["a", "b"], "task": "other"},
        {"names": [1, 2], "task": "single"},
    ],
)
def test_edited_json_is_refused(values):
    with pytest.raises(DataError):
        LabelSpace.from_json(values)


def test_unseen_label_names_file_row_label_and_nearest():
    space = LabelSpace(("card arrival", "card lost"), "single")
    dev = Dataset.from_lists(
        ["a", "b", "c"], [("card lost",), ("card lost",), ("card arival",)], source="dev.csv"
    )
    with pytest.raises(DataError, match=r"dev.csv: row 3: label 'card arival'.*did you mean 'card arrival'"):
        space.encode(dev)
    with pytest.raises(DataError, match="row 3"):
        space.check(dev.take([0, 2]))


def test_encode_refuses_rows_without_exactly_one_label():
    space = LabelSpace(("a", "b"), "single")
    with pytest.raises(DataError, match="row 2 has 0 labels"):
        space.encode_single([("a",), ()])
    with pytest.raises(DataError, match="row 1: label 'c'"):
        space.encode_multi([("c",)])


def test_five_thousand_labels_are_exact():
    names = [str(number) for number in range(5_000)]
    rows = [(name,) for name in names]
    random.Random(0).shuffle(rows)
    space = LabelSpace.from_labels(rows, "single")
    assert space.names == tuple(names)
    assert space.encode_single(rows).tolist() == [int(name) for (name,) in rows]
    assert space.encode_multi(rows).sum() == 5_000


def test_dataset_order_wins_over_sorting():
    data = Dataset.from_lists(["a", "b"], [("b",), ("a",)], task="single", label_names=("b", "c", "a"))
    assert LabelSpace.from_dataset(data).names == ("b", "c", "a")
    assert LabelSpace.from_dataset(data).id2label == {0: "b", 1: "c", 2: "a"}
    with pytest.raises(DataError, match="without labels"):
        LabelSpace.from_dataset(data.without_labels())
