from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.data.splits import split, subsample
from sortal.errors import ConfigError, DataError


def quiet(message: str) -> None:
    pass


def single(counts, prefix="text"):
    labels = [(name,) for name, count in counts.items() for _ in range(count)]
    return Dataset.from_lists([f"{prefix} {i}" for i in range(len(labels))], labels, task="single")


ROWS = st.lists(
    st.tuples(
        st.integers(0, 25).map(lambda i: f"text {i}"),
        st.lists(st.sampled_from("abcde"), max_size=3, unique=True).map(tuple),
        st.sampled_from([None, "g1", "g2", "g3", "g4"]),
    ),
    min_size=20,
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(0, 5))
def test_parts_are_disjoint_complete_and_never_share_a_text_or_group(rows, seed):
    texts, labels, groups = zip(*rows, strict=True)
    data = Dataset.from_lists(texts, labels, groups=groups, task="multi")
    try:
        parts = split(data, dev_size=0.2, test_size=0.2, seed=seed, say=quiet)
    except DataError:
        return  # too few clusters to fill three parts
    everything = np.concatenate(list(parts.values()))
    assert sorted(everything.tolist()) == list(range(len(rows)))
    part_of = {position: name for name, positions in parts.items() for position in positions.tolist()}
    for values in (texts, groups):
        seen: dict[str, str] = {}
        for position, value in enumerate(values):
            if value is not None:
                assert seen.setdefault(value, part_of[position]) == part_of[position]
    assert {label for position in parts["train"] for label in labels[position]} == {
        label for row in labels for label in row
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=2, max_size=12), st.integers(0, 3))
def test_every_class_has_its_share_within_one_row_and_parts_keep_their_size(counts, seed):
    data = single({str(i): count for i, count in enumerate(counts)})
    if len(data) < 12:
        return
    parts = split(data, dev_size=0.2, test_size=0.2, seed=seed, say=quiet)
    shares = {"train": 0.6, "dev": 0.2, "test": 0.2}
    for name, share in shares.items():
        found = Counter(data.labels[position][0] for position in parts[name])
        for label, count in enumerate(counts):
            assert abs(found[str(label)] - share * count) <= 1.5
        assert abs(len(parts[name]) - share * len(data)) <= 3


def test_multi_label_proportions_are_close_for_frequent_and_rare_labels():
    rng = np.random.default_rng(0)
    chances = np.array([0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005])
    matrix = rng.random((4_000, 7)) < chances
    labels = [tuple(f"l{column}" for column in np.flatnonzero(row)) for row in matrix]
    data = Dataset.from_lists([f"t{i}" for i in range(4_000)], labels, task="multi")
    parts = split(data, say=quiet)
    gold = LabelSpace.from_dataset(data).encode_multi(data.labels)
    for name, share in {"train": 0.75, "dev": 0.1, "test": 0.15}.items():
        assert np.abs(gold[parts[name]].sum(0) - share * gold.sum(0)).max() <= 3
        assert abs(len(parts[name]) - share * 4_000) <= 20


def test_many_classes_of_three_rows_still_fill_every_part():
    data = single({f"class {i}": 3 for i in range(1_000)})
    parts = split(data, say=quiet)
    assert {name: round(len(rows) / 3_000, 2) for name, rows in parts.items()} == {
        "train": 0.75,
        "dev": 0.1,
        "test": 0.15,
    }


def test_class_with_one_example_goes_to_train_and_is_said():
    said: list[str] = []
    data = single({"a": 30, "b": 30, "rare": 1})
    parts = split(data, say=said.append)
    assert 60 in parts["train"]
    assert any("1 label with a single example" in message and "'rare'" in message for message in said)


def test_label_whose_rows_are_one_cluster_goes_to_train():
    texts = [f"t{i}" for i in range(40)] + ["same", "SAME  ", " same"]
    data = Dataset.from_lists(texts, [("a",)] * 20 + [("b",)] * 20 + [("c",)] * 3, task="single")
    parts = split(data, say=quiet)
    assert {40, 41, 42} <= set(parts["train"].tolist())


def test_same_seed_same_split_and_another_seed_another():
    data = single({"a": 100, "b": 50})
    first, again, other = (split(data, seed=seed, say=quiet) for seed in (3, 3, 4))
    assert all((first[name] == again[name]).all() for name in first)
    assert any(first[name].tolist() != other[name].tolist() for name in first)


def test_part_of_size_zero_is_left_out():
    assert set(split(single({"a": 20, "b": 20}), test_size=0, say=quiet)) == {"train", "dev"}


def test_unlabelled_rows_can_be_split():
    parts = split(Dataset.from_lists([f"t{i}" for i in range(100)]), say=quiet)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 75, "dev": 10, "test": 15}


def test_impossible_splits_are_refused():
    with pytest.raises(ConfigError, match="no rows for training"):
        split(single({"a": 9}), dev_size=0.5, test_size=0.5, say=quiet)
    with pytest.raises(DataError, match="cannot be split"):
        split(Dataset.from_lists(["same"] * 10, [("a",), ("b",)] * 5), say=quiet)
    with pytest.raises(DataError, match="empty"):
        split(single({"a": 1, "b": 1, "c": 1}), say=quiet)


def test_subsample_is_seeded_ordered_and_keeps_every_label():
    data = single({"a": 200, "b": 3, "c": 1})
    part = subsample(data, 20, seed=1)
    assert len(part) == 20
    assert part.rows.tolist() == sorted(part.rows.tolist())
    assert {label for (label,) in part.labels} == {"a", "b", "c"}
    assert part.rows.tolist() == subsample(data, 20, seed=1).rows.tolist()
    assert part.rows.tolist() != subsample(data, 20, seed=2).rows.tolist()
    assert subsample(data, 1_000) is data
    assert len(subsample(data, 2)) == 2
