"""Shards of files: cut alike every time, shared among processes, gone with their parent."""

from __future__ import annotations

import signal

import pytest
from benchmarks.wipo_records import write_broken, write_collection

from sortal.bulk.work import Work
from sortal.data.wipo.layout import RecordFile, find_records
from sortal.data.wipo.record import MAX_BYTES
from sortal.importing import shards
from sortal.importing.shards import Job, cut, read_shard
from sortal.importing.workers import convert_all
from sortal.training.signals import StopAsked, StopRequest


def files(*sizes: int) -> list[RecordFile]:
    return [RecordFile(f"{number}.xml", size, 0) for number, size in enumerate(sizes)]


def test_shards_are_bounded_in_files_and_bytes(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_FILES", 3)
    monkeypatch.setattr(shards, "SHARD_BYTES", 100)
    given = files(1, 1, 1, 60, 60, 1, 1000, 1)
    assert [[file.size for file in run] for run in cut(given)] == [[1, 1, 1], [60, 60], [1, 1000], [1]]
    assert list(cut([])) == []


def jobs(tmp_path, per_shard=20):
    write_collection(tmp_path / "c", 50, description_words=5)
    write_broken(tmp_path / "c" / "train")
    found = find_records(tmp_path / "c")
    runs = [tuple(found[start : start + per_shard]) for start in range(0, len(found), per_shard)]
    work = Work(str(tmp_path / "work"), "import")
    return work, [
        Job(work, (0, number), str(tmp_path / "c"), run, ("en",)) for number, run in enumerate(runs)
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_file_is_a_row_or_a_problem(tmp_path, workers):
    work, given = jobs(tmp_path)
    with StopRequest() as stop:
        done = dict(convert_all(given, workers, stop))
    assert done == {job.place: len(job.files) for job in given}
    for job in given:
        shard = read_shard(work, job.place)
        refused = [problem["file"] for problem in shard.problems if not problem["row"]]
        assert sorted([*shard.rows["file"].to_pylist(), *refused]) == [file.path for file in job.files]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_ends_it_and_keeps_what_is_finished(tmp_path, workers):
    work, given = jobs(tmp_path, 5)
    with StopRequest() as stop:
        finished = convert_all(given, workers, stop)
        place, _ = next(finished)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopAsked):
            list(finished)
    assert read_shard(work, place).rows.num_rows > 0


def test_a_file_that_grew_too_large_or_went_away_is_a_problem(tmp_path):
    given = [RecordFile("large.xml", MAX_BYTES + 1, 0), RecordFile("gone.xml", 1, 0)]
    work = Work(str(tmp_path / "work"), "import")
    shards.convert(Job(work, (0, 0), str(tmp_path), tuple(given), ("en",)))
    assert [problem["kind"] for problem in read_shard(work, (0, 0)).problems] == ["too large", "unreadable"]
