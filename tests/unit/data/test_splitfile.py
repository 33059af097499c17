from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from sortal.data.dataset import Dataset
from sortal.data.splitfile import load_split, save_split
from sortal.data.splits import split
from sortal.errors import DataError, ResourceError

DATA = Dataset.from_lists([f"t{i}" for i in range(60)], [("a",), ("b",)] * 30, task="single")


@pytest.fixture
def parts():
    return split(DATA, seed=1, say=lambda message: None)


def test_split_survives_the_disk(tmp_path, parts):
    save_split(tmp_path / "run" / "split.parquet", DATA, parts, {"seed": 1})
    found = load_split(tmp_path / "run" / "split.parquet", DATA)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        name: rows.tolist() for name, rows in parts.items()
    }
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["split.parquet"]


def test_file_says_which_row_is_where(tmp_path, parts):
    save_split(tmp_path / "s.parquet", DATA, parts)
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [row["row"] - 1 for row in rows if row["part"] == "dev"] == parts["dev"].tolist()


def test_other_data_is_refused(tmp_path, parts):
    save_split(tmp_path / "s.parquet", DATA, parts)
    with pytest.raises(DataError, match="made for other data"):
        load_split(tmp_path / "s.parquet", DATA.take(list(range(59, -1, -1))))


def test_missing_and_damaged_files_are_refused(tmp_path, parts):
    with pytest.raises(DataError, match="no split file"):
        load_split(tmp_path / "s.parquet", DATA)
    save_split(tmp_path / "s.parquet", DATA, parts)
    whole = (tmp_path / "s.parquet").read_bytes()
    (tmp_path / "s.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable split file"):
        load_split(tmp_path / "s.parquet", DATA)


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, parts, monkeypatch):
    save_split(tmp_path / "s.parquet", DATA, parts)
    before = (tmp_path / "s.parquet").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(ResourceError, match="No space left"):
        save_split(tmp_path / "s.parquet", DATA, parts)
    assert (tmp_path / "s.parquet").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s.parquet"]
