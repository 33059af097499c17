"""F11: one live process per folder, and none that is dead."""

import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest

from sortal.errors import LockedError, RunFolderError
from sortal.training.lock import FolderLock

HOLD = """
import os, sys
from sortal.training.lock import FolderLock
with FolderLock(sys.argv[1]):
    if sys.argv[2] == "fork":
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
            sys.stdin.read()
            os._exit(0)
    else:
        print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    started = []

    def start(mode="alone"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path / "run", mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        return process, process.stdout.readline().decode().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_the_second_process_is_refused_until_the_first_is_killed_f11(tmp_path, holder):
    process, _ = holder()
    with pytest.raises(LockedError, match=rf"{tmp_path / 'run'} is in use by process {process.pid} on "):
        FolderLock(tmp_path / "run").__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run" / ".lock").exists()
    with FolderLock(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / ".lock").read_text())["pid"] == os.getpid()


def test_a_forked_worker_does_not_keep_a_dead_process_lock_f11(tmp_path, holder):
    process, worker = holder("fork")
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.kill(int(worker), 0)
    with FolderLock(tmp_path / "run"):
        pass


def test_a_forked_child_leaving_the_block_does_not_unlock(tmp_path):
    with FolderLock(tmp_path) as lock:
        child = os.fork()
        if child == 0:
            try:
                lock.__exit__(None, None, None)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(LockedError):
            FolderLock(tmp_path).__enter__()


def test_the_lock_leaves_nothing_behind_also_after_an_error(tmp_path):
    folder = tmp_path / "not" / "there"

    def fail_inside():
        with FolderLock(folder):
            assert [p.name for p in folder.iterdir()] == [".lock"]
            raise ValueError

    with pytest.raises(ValueError):
        fail_inside()
    assert list(folder.iterdir()) == []
    with FolderLock(folder), pytest.raises(LockedError, match=f"process {os.getpid()} "):
        FolderLock(folder).__enter__()


def test_a_lock_file_removed_while_it_is_taken_is_taken_anew(tmp_path, monkeypatch):
    flock = fcntl.flock
    removed = []

    def release_meanwhile(descriptor, operation):
        if not removed:
            removed.append(True)
            (tmp_path / ".lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", release_meanwhile)
    with FolderLock(tmp_path), pytest.raises(LockedError):
        FolderLock(tmp_path).__enter__()


def test_an_unreadable_holder_is_another_process(tmp_path):
    with FolderLock(tmp_path):
        (tmp_path / ".lock").write_text("{")
        with pytest.raises(LockedError, match="in use by another process"):
            FolderLock(tmp_path).__enter__()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot be locked"):
        FolderLock(tmp_path / "file" / "run").__enter__()
