import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortal.errors import DataError, ResourceError
from sortal.evaluation import predictions as module
from sortal.evaluation.predictions import open_predictions, read_predictions, write_predictions


def space(names, task):
    return SimpleNamespace(names=tuple(names), task=task)


def test_single_label_round_trip_with_an_abstained_row(tmp_path):
    path = tmp_path / "predictions.parquet"
    p = np.array([[0.1, 0.9], [1 / 3, 2 / 3], [0.5, 0.5]])
    # a label may be called like a column
    write_predictions(
        path,
        ["a", "b", "c"],
        p,
        np.array([1, 1, -1]),
        space(["id", "gold"], "single"),
        gold=np.array([0, 1, 1]),
    )
    table = pq.read_table(path)
    assert table.column_names == ["id", "gold", "predicted", "p:id", "p:gold"]
    assert table["predicted"].to_pylist() == ["gold", "gold", None]
    assert table["gold"].to_pylist() == ["id", "gold", "gold"]
    read = read_predictions(path)
    assert (read.names, read.task, read.ids) == (("id", "gold"), "single", ["a", "b", "c"])
    np.testing.assert_array_equal(read.probabilities, p)
    np.testing.assert_array_equal(read.predicted, [1, 1, -1])
    np.testing.assert_array_equal(read.gold, [0, 1, 1])


def test_multi_label_round_trip_with_empty_rows(tmp_path):
    path = tmp_path / "predictions.parquet"
    predicted = np.array([[1, 0, 1], [0, 0, 0]], dtype=np.uint8)
    gold = np.array([[0, 0, 0], [0, 1, 0]], dtype=np.uint8)
    write_predictions(
        path, ["1", "2"], predicted * 0.7, predicted, space(["x", "ü", "p:x"], "multi"), gold=gold
    )
    table = pq.read_table(path)
    assert table.schema.field("predicted").type == pa.list_(pa.string())
    assert table["predicted"].to_pylist() == [["x", "p:x"], []]
    read = read_predictions(path)
    np.testing.assert_array_equal(read.predicted, predicted)
    np.testing.assert_array_equal(read.gold, gold)
    np.testing.assert_array_equal(read.probabilities, predicted * 0.7)


def test_unlabelled_rows_have_no_gold_column(tmp_path):
    path = tmp_path / "p.parquet"
    write_predictions(path, ["1"], np.array([[1.0]]), np.array([0]), space(["only"], "single"))
    assert "gold" not in pq.read_table(path).column_names
    assert read_predictions(path).gold is None


def test_batches_and_row_groups_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP", 4)
    path = tmp_path / "p.parquet"
    p = np.random.default_rng(0).dirichlet([1, 1], 11)
    with open_predictions(path, space("ab", "single"), with_gold=False) as writer:
        for rows in (slice(0, 5), slice(5, 5), slice(5, 11)):
            ids = [str(k) for k in range(11)[rows]]
            writer.write(ids, p[rows], p[rows].argmax(axis=1))
    read = read_predictions(path)
    assert read.ids == [str(k) for k in range(11)]
    np.testing.assert_array_equal(read.probabilities, p)
    assert max(pq.ParquetFile(path).metadata.row_group(g).num_rows for g in range(4)) <= 4


def test_a_failure_half_way_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "p.parquet"
    write_predictions(path, ["old"], np.array([[1.0]]), np.array([0]), space("a", "single"))

    def fail_half_way():
        with open_predictions(path, space("a", "single"), with_gold=False) as writer:
            writer.write(["new"], np.array([[1.0]]), np.array([0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert [f.name for f in tmp_path.iterdir()] == ["p.parquet"]
    assert read_predictions(path).ids == ["old"]


def test_rows_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="different lengths"):
        write_predictions(
            tmp_path / "p.parquet", ["1", "2"], np.array([[1.0]]), np.array([0]), space("a", "single")
        )
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_a_clean_failure(tmp_path):
    with pytest.raises(ResourceError, match="cannot write"):
        write_predictions(
            tmp_path / "no" / "p.parquet", ["1"], np.array([[1.0]]), np.array([0]), space("a", "single")
        )


def test_a_foreign_or_missing_file_is_a_clean_failure(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_predictions(tmp_path / "none.parquet")
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"id": ["1"]}), foreign)
    with pytest.raises(DataError, match="not a predictions file"):
        read_predictions(foreign)
    foreign.write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match="not a predictions file"):
        read_predictions(foreign)


def test_an_error_of_the_caller_passes_through_unchanged(tmp_path):
    def read_fails():
        with open_predictions(tmp_path / "p.parquet", space("a", "single"), with_gold=False):
            raise PermissionError("some other file")

    with pytest.raises(PermissionError, match="some other file"):
        read_fails()
    assert list(tmp_path.iterdir()) == []


def test_an_id_that_is_not_unicode_is_a_clean_failure(tmp_path):
    with pytest.raises(DataError, match="not valid Unicode"):
        write_predictions(
            tmp_path / "p.parquet", ["\ud800"], np.array([[1.0]]), np.array([0]), space("a", "single")
        )
    assert list(tmp_path.iterdir()) == []


def test_gold_must_be_given_as_announced(tmp_path):
    with (
        open_predictions(tmp_path / "p.parquet", space("a", "single")) as writer,
        pytest.raises(ValueError, match="with_gold"),
    ):
        writer.write(["1"], np.array([[1.0]]), np.array([0]))


def test_memory_does_not_grow_with_the_rows(tmp_path):
    def peak(batches):
        p = np.full((2000, 20), 0.05)
        held = []
        tracemalloc.start()
        with open_predictions(
            tmp_path / "p.parquet", space("abcdefghijklmnopqrst", "single"), with_gold=False
        ) as writer:
            for k in range(batches):
                writer.write([str(k)] * 2000, p, np.zeros(2000, dtype=np.int64))
                held.append(pa.total_allocated_bytes())
        traced = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return traced, max(held)

    few, many = peak(2), peak(30)  # 28 more batches are 9 MB of probabilities
    assert many[0] < few[0] + 1_000_000
    assert many[1] < few[1] + 1_000_000
