from __future__ import annotations

import gc
import pickle

import numpy as np
import pyarrow as pa
import pytest

from sortal.data.dataset import Dataset
from sortal.data.reading import read

DATA = Dataset.from_lists(
    ["a", "b", "c"], [("x",), (), ("x", "y")], ids=["i", "j", "k"], groups=["g", "g", "h"], task="multi"
)


def test_take_is_a_view_in_the_asked_order():
    part = DATA.take([2, 0]).take([1, 0, 0])
    assert part.texts == ["a", "c", "c"]
    assert part.ids == ["i", "k", "k"]
    assert part.labels == [("x",), ("x", "y"), ("x", "y")]
    assert part.groups == ["g", "h", "h"]
    assert part.rows.tolist() == [1, 3, 3]
    assert part.text_at([1]) == ["c"]
    assert part.table.column("text").to_pylist() == part.texts
    assert part.task == "multi"
    assert len(DATA) == 3


@pytest.mark.parametrize("bad", [[3], [-1]])
def test_take_refuses_positions_outside(bad):
    with pytest.raises(IndexError):
        DATA.take(bad)


def test_empty_take():
    assert DATA.take([]).texts == []
    assert DATA.take(np.array([], np.int64)).labels == []


def test_access_across_chunks():
    table = pa.concat_tables([DATA.table.slice(0, 1), DATA.table.slice(0, 0), DATA.table.slice(1, 2)])
    data = Dataset(table, "chunks")
    assert data.text_at([2, 0, 1]) == ["c", "a", "b"]
    assert list(data.iter_texts(batch_size=2)) == ["a", "b", "c"]


def test_fingerprint_sees_text_labels_and_order_only():
    same = Dataset.from_lists(["a", "b", "c"], [("x",), (), ("x", "y")], source="elsewhere")
    assert DATA.fingerprint == same.fingerprint
    changed = [
        DATA.take([0, 2, 1]),
        DATA.take([0, 1]),
        DATA.without_labels(),
        Dataset.from_lists(["a", "b", "c"], [("x",), (), ("xy",)]),
        Dataset.from_lists(["ab", "", "c"], [("x",), (), ("x", "y")]),
        Dataset.from_lists(["a", "b", "c"], [("x",), ("x",), ("y",)]),
    ]
    assert len({data.fingerprint for data in [DATA, *changed]}) == 7


def test_texts_outlive_the_temporary_file(write, heard):
    data = read(write("a.csv", "text,label\n" + "hello,x\nbye,y\n" * 2_000), say=heard)
    gc.collect()
    assert data.text_at([3_999]) == ["bye"]
    assert len(pickle.loads(pickle.dumps(data)).texts) == 4_000
