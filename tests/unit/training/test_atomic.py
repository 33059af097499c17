"""Atomic files and folders: complete or absent whatever happens while they are written (F1, F4)."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from sortal.errors import ResourceError
from sortal.training import atomic
from sortal.training.atomic import (
    atomic_file,
    atomic_folder,
    discard_folder,
    remove_leftovers,
    write_bytes,
    write_json,
    write_text,
)


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def write_version(path, version):
    with atomic_folder(path) as folder:
        (folder / "a.txt").write_text(version)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text(version)


def read_version(path):
    return (path / "a.txt").read_text(), (path / "sub" / "b.txt").read_text()


def test_writes_bytes_text_and_json_into_missing_parents(tmp_path):
    assert write_bytes(tmp_path / "new" / "a.bin", b"\x00\xff").read_bytes() == b"\x00\xff"
    assert write_text(tmp_path / "b.txt", "é").read_bytes() == "é".encode()
    assert json.loads(write_json(tmp_path / "c.json", {"é": [1, (2,)]}).read_text("utf-8")) == {"é": [1, [2]]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.txt", "c.json", "new"]


def test_json_stays_valid_with_nan_and_lone_surrogates(tmp_path):
    path = write_json(
        tmp_path / "m.json", {"f1": float("nan"), "ci": [float("-inf"), 0.5], "label": "\ud800"}
    )
    assert json.loads(path.read_bytes(), parse_constant=pytest.fail) == {
        "f1": None,
        "ci": [None, 0.5],
        "label": "\ud800",
    }


def test_a_symlinked_file_keeps_its_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    write_text(tmp_path / "link.txt", "x")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "x"


def test_disk_full_keeps_the_earlier_file_and_names_the_bytes_f4(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(atomic.os, "fsync", no_space)
    with pytest.raises(
        ResourceError, match=r"1,234 bytes are needed and [\d,]+ are free in .*intact"
    ) as caught:
        write_bytes(path, b"x" * 1234)
    assert str(tmp_path) in caught.value.what
    assert caught.value.exit_code == 3
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("needed", [None, 5000])
def test_disk_full_keeps_the_earlier_folder_f4(tmp_path, monkeypatch, needed):
    path = tmp_path / "run"
    write_version(path, "old")
    expected = "5,000 bytes are needed" if needed else "more than 2,000 bytes are needed"

    def fill():
        with atomic_folder(path, needed) as folder:
            (folder / "a.txt").write_bytes(b"x" * 2000)
            no_space()

    with pytest.raises(ResourceError, match=expected):
        fill()
    assert read_version(path) == ("old", "old")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_a_really_full_disk_f4(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        write_version(disk / "run", "old")
        with pytest.raises(ResourceError, match="more than") as caught, atomic_folder(disk / "run") as folder:
            (folder / "a.txt").write_bytes(b"x" * 100_000)
        assert f"are free in {disk}" in caught.value.what
        assert read_version(disk / "run") == ("old", "old")
        with pytest.raises(ResourceError, match="100,000 bytes are needed"):
            write_bytes(disk / "b", b"x" * 100_000)
        assert [p.name for p in disk.iterdir()] == ["run"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_unwritable_place_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="cannot write"):
        write_text(tmp_path / "file" / "a.txt", "x")
    with pytest.raises(ResourceError, match="cannot write"), atomic_folder(tmp_path / "file" / "b"):
        pytest.fail("the block must not run")


def test_a_folder_never_replaces_a_file(tmp_path):
    path = write_text(tmp_path / "model", "precious")
    with pytest.raises(ResourceError, match="a file has this name"), atomic_folder(path):
        pytest.fail("the block must not run")
    assert path.read_text() == "precious"


def test_the_new_folder_appears_only_at_the_end(tmp_path):
    path = tmp_path / "run"
    write_version(path, "old")
    with atomic_folder(path) as folder:
        (folder / "new.txt").write_text("x")
        assert folder.parent == tmp_path
        assert read_version(path) == ("old", "old")
    assert [p.name for p in path.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_no_trace(tmp_path, error):
    def stop_half_way():
        with atomic_folder(tmp_path / "run") as folder:
            (folder / "a.txt").write_text("x")
            raise error

    with pytest.raises(error):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_failing_last_rename_puts_the_old_folder_back(tmp_path, monkeypatch):
    path = tmp_path / "run"
    write_version(path, "old")
    rename = type(path).rename

    def fail_on_the_new_one(self, target):
        if ".tmp-" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", fail_on_the_new_one)
    with pytest.raises(ResourceError, match="Input/output error"):
        write_version(path, "new")
    monkeypatch.undo()
    assert read_version(path) == ("old", "old")
    assert list(tmp_path.iterdir()) == [path]


def killed_at_call(number, action):
    """Run ``action`` in a forked child that is SIGKILLed at its ``number``-th function call; whether it was."""
    child = os.fork()
    if child == 0:
        seen = 0

        def kill(_frame, _event, _argument):
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.setprofile(kill)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def test_sigkill_at_any_instant_of_a_replacement_leaves_old_or_new_f1(tmp_path):
    path = tmp_path / "run"
    write_version(path, "old")
    seen = set()
    number, step = 1, 7  # coarse steps for speed; a prime, so that no phase of the calls is favoured
    while killed_at_call(number, lambda: write_version(path, "new")):
        number += step
        remove_leftovers(tmp_path)
        first, second = read_version(path)
        assert first == second
        assert list(tmp_path.iterdir()) == [path]
        seen.add(first)
        if first == "new":
            write_version(path, "old")
    assert seen == {"old", "new"}
    assert number > 100


def test_a_kill_between_the_two_renames_is_undone(tmp_path):
    path = tmp_path / "run"
    write_version(path, "old")
    path.rename(tmp_path / ".run.old-1-0123abcd")
    (tmp_path / ".run.tmp-1-0123abcd").mkdir()
    (tmp_path / ".hidden").write_text("not ours")
    remove_leftovers(tmp_path)
    assert read_version(path) == ("old", "old")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "run"]


def test_leftovers_of_a_folder_that_does_not_exist(tmp_path):
    remove_leftovers(tmp_path / "missing")


def test_discarding_a_folder_never_shows_it_half_empty(tmp_path, monkeypatch):
    path = tmp_path / "run"
    write_version(path, "old")
    # As if killed before anything was deleted.
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda *_args, **_kwargs: None)
    discard_folder(path)
    assert not path.exists()
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_streamed_file_appears_at_the_end_or_not_at_all(tmp_path):
    path = tmp_path / "rows.csv"
    with atomic_file(path) as temporary, temporary.open("w") as file:
        file.write("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    with pytest.raises(ResourceError, match="cannot write"), atomic_file(path) as temporary:
        temporary.mkdir()
    assert path.read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]
