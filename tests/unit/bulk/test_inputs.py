"""Files, folders, globs and URLs as a list of inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sortal.bulk.inputs import Input, expand
from sortal.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.csv",
        "a.jsonl",
        "sub/c.parquet",
        "sub/d.csv.gz",
        "notes.md",
        ".hidden.csv",
        ".work/e.csv",
    ):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data"


def names(*words: str | Path) -> list[str]:
    return [each.name for each in expand([str(word) for word in words])]


def test_a_folder_gives_its_data_files_sorted_by_their_place_in_it(folder):
    assert names(folder) == ["a.jsonl", "b.csv", "sub/c.parquet", "sub/d.csv.gz"]
    assert expand([str(folder)])[1] == Input(str(folder / "b.csv"), "b.csv", str(folder))


def test_a_glob_gives_names_from_its_first_wildcard_on(folder):
    assert names(folder / "*.csv") == ["b.csv"]
    assert names(folder / "s*" / "*") == ["sub/c.parquet", "sub/d.csv.gz"]
    assert names(folder / "**" / "*.csv*") == ["b.csv", "sub/d.csv.gz"]


def test_a_url_is_a_file_a_folder_or_a_glob(folder):
    url = f"file://{folder}"
    assert names(url) == names(folder)
    assert names(f"{url}/*.csv") == ["b.csv"], "a star stays within its folder"
    assert names(f"{url}/s*/*.gz") == ["sub/d.csv.gz"]
    assert expand([f"{url}/b.csv"]) == [Input(f"{url}/b.csv", "b.csv")]
    assert expand([f"{url}/*.csv"])[0].source == f"{url}/b.csv"


def test_words_keep_their_order(folder):
    assert names(folder / "b.csv", folder / "a.jsonl") == ["b.csv", "a.jsonl"]


def test_a_folder_of_text_files_by_class_is_one_input(tmp_path):
    for name in ("good/1.txt", "bad/2.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    assert expand([str(tmp_path)]) == [Input(str(tmp_path), tmp_path.name)]


def test_a_name_with_a_wildcard_that_exists_is_a_file(tmp_path):
    (tmp_path / "a[1].csv").touch()
    assert names(tmp_path / "a[1].csv") == ["a[1].csv"]


def test_a_hub_id_has_a_name_that_files_can_have():
    assert names("owner/data:small#test") == ["owner-data-small-test"]


@pytest.mark.parametrize("as_url", [False, True])
def test_nothing_to_read_is_refused_with_what_is_there(folder, as_url):
    place = f"file://{folder}" if as_url else str(folder)
    with pytest.raises(DataError, match=r"no file matches .*\*\.tsv; .* holds .*'b.csv'"):
        expand([f"{place}/*.tsv"])
    (folder.parent / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no data files"):
        expand([f"{place}/../empty" if as_url else str(folder.parent / "empty")])


def test_a_file_given_twice_is_refused(folder):
    with pytest.raises(DataError, match=r"b\.csv is given twice"):
        expand([str(folder), str(folder / "sub" / ".." / "b.csv")])
