"""The work folder: what is finished, for whom, and one process at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sortal.bulk.work import Work, model_digest
from sortal.errors import LockedError, RunFolderError

IDENTITY = {"model": "abc", "--top": None, "input 1": "a.csv, 10 rows"}


@pytest.fixture(params=["path", "url"])
def work(request, tmp_path) -> Work:
    return Work(f"file://{tmp_path}/work" if request.param == "url" else str(tmp_path / "work"))


def test_finished_shards_are_there_the_next_time(work):
    assert work.begin(IDENTITY, force=False) == set()
    work.store((0, 0), b"zero")
    work.store((12, 345), b"more")
    work.store((0, 0), b"zero")
    assert Work(work.folder).begin(IDENTITY, force=False) == {(0, 0), (12, 345)}
    assert work.shard((12, 345)) == b"more"


def test_another_prediction_is_refused_naming_what_differs_and_force_throws_it_away(work):
    work.begin(IDENTITY, force=False)
    work.store((0, 0), b"zero")
    changed = IDENTITY | {"model": "xyz", "--top": 3}
    with pytest.raises(RunFolderError, match="model: abc → xyz; --top: none → 3") as refused:
        work.begin(changed, force=False)
    assert "--force" in refused.value.fix
    assert work.begin(IDENTITY, force=False) == {(0, 0)}, "refusing changes nothing"
    assert work.begin(changed, force=True) == set()
    assert work.begin(changed, force=False) == set()


def test_a_damaged_manifest_is_another_prediction(tmp_path):
    work = Work(str(tmp_path))
    work.begin(IDENTITY, force=False)
    (tmp_path / "manifest.json").write_text('{"mod')
    with pytest.raises(RunFolderError, match="model: none → abc"):
        work.begin(IDENTITY, force=False)


def test_a_published_output_has_no_shards_left(work):
    work.begin(IDENTITY, force=False)
    work.store((0, 0), b"zero")
    work.store((1, 0), b"one")
    assert not work.published(0)
    work.publish(0, [(0, 0)])
    assert work.published(0)
    assert work.begin(IDENTITY, force=False) == {(1, 0)}


def test_a_folder_without_anything_finished_goes(work, tmp_path):
    with work.locked():
        work.begin(IDENTITY, force=False)
    assert not (tmp_path / "work").exists()
    with work.locked():
        work.begin(IDENTITY, force=False)
        work.store((0, 0), b"zero")
    assert (tmp_path / "work").exists()


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    code = f"from sortal.bulk.work import Work\nwith Work({str(tmp_path)!r}).locked(): print('in', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin
    assert other.stdout
    try:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(LockedError, match=f"process {other.pid}"), Work(str(tmp_path)).locked():
            pass
    finally:
        other.communicate(b"\n")


def test_the_digest_of_a_model_is_of_what_decides_its_answers(tmp_path):
    (tmp_path / "sortal.json").write_text(json.dumps({"files": {"m.safetensors": "sum"}}))
    (tmp_path / "tokenizer.json").write_text("{}")
    before = model_digest(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    assert model_digest(tmp_path) == before
    for name in ("sortal.json", "tokenizer.json"):
        path = Path(tmp_path / name)
        old = path.read_text()
        path.write_text(old + " ")
        assert model_digest(tmp_path) != before
        path.write_text(old)
    assert model_digest(tmp_path) == before
