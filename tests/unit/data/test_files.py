from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortal.data.files import find_files, part_files
from sortal.data.reading import read
from sortal.errors import DataError

CSV = "text,label\na,x\nb,y\n"


def names(parts):
    return {part: Path(path).name for part, path in parts.items()}


def test_missing_file_names_its_neighbours(write, heard):
    path = write("reviews.csv", CSV)
    with pytest.raises(DataError, match=r"nearest names.*'reviews.csv'"):
        read(path.with_name("review.csv"), say=heard)


def test_missing_folder_is_said(tmp_path, heard):
    with pytest.raises(DataError, match="there is no folder"):
        read(tmp_path / "nowhere" / "a.csv", say=heard)


def test_unknown_format_lists_the_known_ones(write, heard):
    with pytest.raises(DataError, match=r"\.jsonl"):
        read(write("a.docx", "hello"), say=heard)


def test_spreadsheet_is_named(write, heard):
    with pytest.raises(DataError, match="spreadsheet"):
        read(write("a.xlsx", b"PK\x03\x04rest"), say=heard)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train.csv", "dev.csv", "test.csv"], {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"}),
        (["train.tsv", "validation.tsv"], {"train": "train.tsv", "dev": "validation.tsv"}),
        (["Train.csv", "valid.csv.gz"], {"train": "Train.csv", "dev": "valid.csv.gz"}),
        (["reviews.csv", "README.txt"], {"train": "reviews.csv"}),
        (["data/train-00000-of-00001.csv"], {"train": "train-00000-of-00001.csv"}),
    ],
)
def test_folder_parts_are_found_by_name(write, tmp_path, files, expected):
    for name in files:
        write(name, CSV)
    assert names(find_files(tmp_path)) == expected


def test_folder_without_training_file_and_with_two_is_refused(write, tmp_path):
    write("dev.csv", CSV)
    write("train_old.csv", CSV)
    with pytest.raises(DataError, match="no training file"):
        find_files(tmp_path)
    write("train.csv", CSV)
    write("train.jsonl", "{}")
    with pytest.raises(DataError, match="several train files"):
        find_files(tmp_path)


def test_shards_are_one_table_with_running_rows(tmp_path, heard):
    for number, text in enumerate(["a", "b", "c"]):
        table = pa.table({"text": [text, text * 2], "label": ["x", "y"]})
        pq.write_table(table, tmp_path / f"train-0000{number}-of-00003.parquet")
    data = read(tmp_path, say=heard)
    assert data.texts == ["a", "aa", "b", "bb", "c", "cc"]
    assert data.rows.tolist() == [1, 2, 3, 4, 5, 6]


def test_folders_named_after_their_class(write, tmp_path, heard):
    for part in ("train", "test"):
        for label in ("pos", "neg"):
            for number in range(2):
                write(f"{part}/{label}/{number}.txt", f"{part} {label}\n{number}")
    parts = find_files(tmp_path)
    assert set(parts) == {"train", "test"}
    data = read(parts["test"], say=heard)
    assert data.labels == [("neg",), ("neg",), ("pos",), ("pos",)]
    assert data.texts[0] == "test neg\n0"
    assert len(read(str(tmp_path / "train") + "/", say=heard)) == 4


def test_file_without_extension_is_recognised_by_its_first_bytes(tmp_path, heard):
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), tmp_path / "rows")
    assert len(read(tmp_path / "rows", say=heard)) == 2


@pytest.mark.parametrize("source", ["x" * 5_000, "a\0b"])
def test_impossible_paths_are_refused(heard, source):
    with pytest.raises(DataError, match="cannot be opened"):
        read(source, say=heard)


def test_given_files_win_over_those_of_a_folder(write, tmp_path):
    write("train.csv", CSV)
    write("test.csv", CSV)
    other = write("other.csv", CSV)
    assert names(part_files(tmp_path)) == {"train": "train.csv", "test": "test.csv"}
    assert names(part_files(tmp_path, other, other)) == {
        "train": "train.csv",
        "dev": "other.csv",
        "test": "other.csv",
    }
    assert part_files("a.csv", test=other) == {"train": "a.csv", "test": str(other)}
