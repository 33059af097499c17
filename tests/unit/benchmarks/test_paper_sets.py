from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.paper.sets import SETS, UNSEEN, Sizes, write_set


def read(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", [name for name in SETS if name not in UNSEEN])
def test_a_sample_is_the_same_every_time_and_a_task_of_its_own(data_root, tmp_path, name):
    sizes = Sizes(400, 100, 150, 20)
    first, second = (write_set(name, data_root, sizes, tmp_path / folder) for folder in "ab")
    parts = {part: read(path) for part, path in first.items()}
    assert parts == {part: read(path) for part, path in second.items()}
    assert len(parts["data"]) == 400
    assert 60 <= len(parts["dev"]) <= 100
    assert 90 <= len(parts["test"]) <= 150
    assert all(len(row["text"].split()) <= 20 for rows in parts.values() for row in rows)
    ids = [row["id"] for part in ("data", "dev") for row in parts[part]]
    assert len(ids) == len(set(ids))

    def labels(part):
        given = [row["labels"] for row in parts[part]]
        assert all(isinstance(value, str) == SETS[name].single for value in given)
        return {label for value in given for label in ([value] if SETS[name].single else value)}

    assert labels("dev") | labels("test") <= labels("data")
    assert len(labels("data")) >= 8


def test_all_rows_are_all_rows(data_root, tmp_path):
    files = write_set("patents-sections", data_root, Sizes(None, None, None, None), tmp_path)
    assert [len(read(files[part])) for part in ("data", "test")] == [8892, 1112]
    assert {row["labels"] for row in read(files["data"])} == set("ABCDEFGH")
