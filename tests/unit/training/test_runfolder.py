"""F5: an output folder that cannot be used is refused before any model is loaded."""

import errno
import json
import subprocess
import sys

import pytest

from sortal.errors import RunFolderError
from sortal.training import atomic
from sortal.training.lock import FolderLock
from sortal.training.runfolder import RunFolder, default_out


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def started(run):
    run.prepare(resume=False)
    run.start({"epochs": 3}, {"seed": 0}, command="sortal train")
    return run


def test_the_checks_need_no_torch_f5():
    code = "import sys, sortal.training.runfolder, sortal.training.lock; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("resume", [False, True])
def test_a_missing_empty_or_only_locked_folder_is_new(run, resume):
    assert run.prepare(resume) == "new"
    assert list(run.path.iterdir()) == []
    (run.path / ".run.json.tmp-1-0123abcd").write_text("left by a killed process")
    with FolderLock(run.path):
        assert run.prepare(resume) == "new"


def test_asking_for_the_state_writes_nothing(run, tmp_path):
    assert run.state() == "new"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["file", "file/run"])
def test_a_place_in_the_way_of_a_file_is_refused_f5(tmp_path, below):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="file"):
        RunFolder(tmp_path / below).prepare(resume=False)
    assert (tmp_path / "file").read_text() == "x"


def test_an_unwritable_folder_is_refused_f5(run, monkeypatch):
    def read_only(*_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("sortal.training.runfolder.tempfile.TemporaryFile", read_only)
    with pytest.raises(RunFolderError, match=f"{run.path} is not writable: Read-only file system"):
        run.prepare(resume=False)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_file_system_that_takes_no_files_is_refused_f5():
    with pytest.raises(RunFolderError, match="not writable"):
        RunFolder("/proc/sortal-run").prepare(resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_refused_and_untouched(run, resume):
    run.path.mkdir()
    (run.path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match=r"not a run's folder .*'thesis.tex'"):
        run.prepare(resume)
    assert [p.name for p in run.path.iterdir()] == ["thesis.tex"]


def test_a_finished_run_is_refused_or_reported_f5(run):
    started(run).finish(seconds=1.5)
    before = run.run_json.read_bytes()
    with pytest.raises(RunFolderError, match="finished run"):
        run.prepare(resume=False)
    assert run.prepare(resume=True) == "finished"
    assert run.run_json.read_bytes() == before


@pytest.mark.parametrize("end", [lambda run: None, lambda run: run.fail("disk full")])
def test_an_unfinished_run_needs_resume(run, end):
    end(started(run))
    with pytest.raises(RunFolderError, match="--resume"):
        run.prepare(resume=False)
    assert run.prepare(resume=True) == "unfinished"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"status": "?"}', "\xff"])
def test_a_damaged_record_is_refused(run, content):
    started(run)
    run.run_json.write_text(content, encoding="latin-1")
    with pytest.raises(RunFolderError, match=r"run\.json is"):
        run.prepare(resume=True)


def test_the_record_follows_the_run(run):
    started(run)
    first = run.read_run_json()
    assert (first["status"], first["config"], first["identity"]) == ("running", {"epochs": 3}, {"seed": 0})
    run.fail("stopped by SIGTERM", step=7)
    failed = run.read_run_json()
    assert (failed["status"], failed["reason"], failed["step"]) == ("failed", "stopped by SIGTERM", 7)
    run.start({"epochs": 4}, {"seed": 0})
    resumed = run.read_run_json()
    assert (resumed["status"], resumed["started"]) == ("running", first["started"])
    assert len(resumed["resumed"]) == 1
    assert "reason" not in resumed
    run.finish(tokens=10)
    done = run.read_run_json()
    assert (done["status"], done["tokens"], done["config"]) == ("finished", 10, {"epochs": 4})


def test_recording_a_failure_never_hides_it(run, monkeypatch):
    RunFolder(run.path / "never made").fail("the real reason")
    started(run)

    def no_space(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", no_space)
    run.fail("the real reason")
    assert json.loads(run.run_json.read_text())["status"] == "running"


def test_the_contract_names(run):
    names = [
        run.run_json,
        run.metrics_json,
        run.predictions,
        run.dev_predictions,
        run.model,
        run.checkpoints,
        run.logs,
    ]
    assert [str(p.relative_to(run.path)) for p in names] == [
        "run.json",
        "metrics.json",
        "predictions.parquet",
        "dev_predictions.parquet",
        "model",
        "checkpoints",
        "logs",
    ]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("a/b/reviews.csv", "reviews-head-0"),
        ("reviews.v2.jsonl.gz", "reviews.v2-head-0"),
        ("PolyAI/banking77", "banking77-head-0"),
        ("my data (1).CSV", "my-data-1-head-0"),
        ("größe.parquet", "größe-head-0"),
        ("../..", "data-head-0"),
        ("-", "data-head-0"),
    ],
)
def test_default_names(tmp_path, data, name):
    assert default_out(data, "head", 0, root=tmp_path) == tmp_path / name


def test_a_taken_default_name_gets_a_number_and_resume_finds_the_newest(tmp_path):
    def out(resume=False):
        return default_out("r.csv", "head", 1, resume=resume, root=tmp_path).name

    assert (out(), out(resume=True)) == ("r-head-1", "r-head-1")
    (tmp_path / "r-head-1").mkdir()
    assert (out(), out(resume=True)) == ("r-head-1-2", "r-head-1")
    (tmp_path / "r-head-1-2").mkdir()
    assert (out(), out(resume=True)) == ("r-head-1-3", "r-head-1-2")
