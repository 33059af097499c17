from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from sortal.data.arrow import ArrowFile
from sortal.data.reading import read
from sortal.errors import DataError

TABLE = pa.table({"text": ["a", None, "c"], "label": ["x", "y", "x"]})


def test_parquet_arrow_stream_feather_and_gzip_give_the_same_rows(tmp_path, heard):
    pq.write_table(TABLE, tmp_path / "a.parquet")
    feather.write_feather(TABLE, tmp_path / "a.feather")
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    with (
        pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, TABLE.schema) as writer,
    ):
        writer.write_table(TABLE)
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for name in ("a.parquet", "a.feather", "file.arrow", "stream.arrow", "b.parquet.gz"):
        data = read(tmp_path / name, say=heard)
        assert data.texts == ["a", "", "c"], name
        assert data.labels == [("x",), ("y",), ("x",)], name


def test_class_labels_written_by_datasets_become_names_in_their_order(tmp_path, heard):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["zebra", "apple", "never", "10"])
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 3]}, features=features)
    data.to_parquet(str(tmp_path / "a.parquet"))
    found = read(tmp_path / "a.parquet", say=heard)
    assert found.labels == [("zebra",), ("apple",), ("10",)]
    assert found.label_names == ("zebra", "apple", "never", "10")
    assert found.task == "single"


def test_class_minus_one_is_no_label_and_an_unknown_class_is_refused(tmp_path, heard):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["a", "b"]))
    data = datasets.Dataset.from_dict({"text": ["t", "u"], "label": [0, -1]}, features=features)
    data.to_parquet(str(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match="row 2: column 'label' has no label"):
        read(tmp_path / "a.parquet", say=heard)
    table = pq.read_table(tmp_path / "a.parquet")
    changed = table.set_column(1, table.schema.field("label"), pa.array([0, 7], pa.int64()))
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="row 2, column 'label': class 7"):
        read(tmp_path / "b.parquet", say=heard)


def test_binary_text_is_decoded_or_refused_with_its_row(tmp_path, heard):
    pq.write_table(pa.table({"text": [b"caf\xc3\xa9", b"b"], "label": ["x", "y"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", text=["text"], say=heard).texts == ["café", "b"]
    pq.write_table(pa.table({"text": [b"ok", b"\xe9"], "label": ["x", "y"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="row 2, column 'text'"):
        read(tmp_path / "b.parquet", text=["text"], say=heard)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_damaged_file_is_refused(write, heard, name):
    with pytest.raises(DataError, match="not a readable"):
        ArrowFile(write(name, b"PAR1 nonsense"), name, "parquet" if name.endswith("parquet") else "arrow")


def test_duplicate_columns_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="duplicate column 'text'"):
        ArrowFile(tmp_path / "a.arrow", "a.arrow", "arrow")


def test_arrow_file_with_impossible_offsets_is_refused_before_it_is_read(tmp_path, heard):
    table = pa.table({"text": ["aaaa", "bbbb"], "label": ["x", "y"]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = (tmp_path / "a.arrow").read_bytes()
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 4, 8))
    assert data.count(offsets) == 1
    wrong = b"".join(number.to_bytes(4, "little") for number in (0, 4, 1 << 30))
    (tmp_path / "b.arrow").write_bytes(data.replace(offsets, wrong))
    with pytest.raises(DataError, match="cannot be read near row 1"):
        read(tmp_path / "b.arrow", say=heard)
