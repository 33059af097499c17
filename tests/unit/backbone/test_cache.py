"""A cached model is complete or absent, whoever is killed and however many ask at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sortal.backbone import cache
from sortal.errors import ResourceError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))


def quiet(_message: str) -> None:
    pass


def writes(content: bytes = b"weights"):
    calls = []

    def build(out: Path, scratch: Path) -> dict[str, object]:
        calls.append(scratch)
        (scratch / "download").write_bytes(b"left over")
        (out / "sub").mkdir()
        (out / "model.safetensors").write_bytes(content)
        (out / "sub" / "config.json").write_bytes(b"{}")
        return {"licence": "CC0-1.0"}

    return build, calls


def hidden_leftovers() -> list[str]:
    models = cache.cache_dir() / "models"
    return [p.name for p in models.iterdir() if p.name.startswith(".") and not p.name.endswith(".lock")]


def test_builds_once_and_reuses():
    build, calls = writes()
    first = cache.build_once("a/b==1", build, say=quiet)
    assert cache.build_once("a/b==1", build, say=quiet) == first
    assert len(calls) == 1
    assert (first / "model.safetensors").read_bytes() == b"weights"
    assert cache.manifest_of(first)["licence"] == "CC0-1.0"
    assert first.parent == cache.cache_dir() / "models"
    assert hidden_leftovers() == []


def test_failed_build_leaves_nothing():
    def build(out: Path, scratch: Path) -> dict[str, object]:
        (out / "model.safetensors").write_bytes(b"half")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        cache.build_once("m", build, say=quiet)
    assert not cache.folder_of("m").exists()
    assert hidden_leftovers() == []


@pytest.mark.parametrize("damage", ["truncate", "delete", "no manifest", "bad manifest"])
def test_visible_damage_is_rebuilt(damage):
    build, calls = writes()
    folder = cache.build_once("m", build, say=quiet)
    weights, manifest = folder / "model.safetensors", folder / cache.MANIFEST
    if damage == "truncate":
        weights.write_bytes(b"weigh")
    elif damage == "delete":
        weights.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text('{"files": {"model.safetensors": 3}}')
    said = []
    cache.build_once("m", build, say=said.append)
    assert len(calls) == 2
    assert "damaged" in said[0]
    assert weights.read_bytes() == b"weights"
    assert hidden_leftovers() == []


def test_flipped_bit_is_found_when_asked_for():
    build, calls = writes()
    folder = cache.build_once("m", build, say=quiet)
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert cache.is_complete(folder)
    assert cache.damaged_files(folder) == ["model.safetensors"]
    cache.build_once("m", build, say=quiet, check=True)
    assert len(calls) == 2
    assert cache.damaged_files(folder) == []


def test_too_little_disk_is_refused_before_the_build():
    build, calls = writes()
    with pytest.raises(ResourceError, match=r"needs 1000000000000000000 bytes"):
        cache.build_once("m", build, need_bytes=10**18, say=quiet)
    assert calls == []


def test_full_disk_during_the_build_is_explained_and_cleaned():
    def build(out: Path, scratch: Path) -> dict[str, object]:
        (out / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match="disk is full") as caught:
        cache.build_once("m", build, need_bytes=1234, say=quiet)
    assert "1234" in caught.value.what
    assert hidden_leftovers() == []


def test_unwritable_cache_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "file" / "cache"))
    build, _ = writes()
    with pytest.raises(ResourceError, match="SORTAL_CACHE"):
        cache.build_once("m", build, say=quiet)


def test_key_cannot_leave_the_cache():
    assert cache.folder_of("../../etc/x y").parent == cache.cache_dir() / "models"


def test_default_cache_is_below_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("SORTAL_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / "sortal"


SCRIPT = """
import os, sys
from pathlib import Path
from sortal.backbone.cache import build_once
log, mode = Path(sys.argv[1]), sys.argv[2]
def build(out, scratch):
    with log.open("a") as file:
        file.write("built\\n")
    (out / "model.safetensors").write_bytes(b"w" * 1000)
    if mode == "hang":
        print("half", flush=True)
        sys.stdin.read()          # until killed
    if mode == "slow":
        print("started", flush=True)
        sys.stdin.readline()      # until the other process waits for the lock
    return {}
build_once("m", build, say=lambda text: print(text, flush=True))
print("done", flush=True)
"""


def start(log: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(log), mode]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def test_killed_build_is_redone_and_its_remains_removed(tmp_path):
    log = tmp_path / "log"
    victim = start(log, "hang")
    assert victim.stdout.readline() == "half\n"
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert not cache.folder_of("m").exists()
    assert hidden_leftovers() != []
    build, calls = writes()
    folder = cache.build_once("m", build, say=quiet)
    assert len(calls) == 1
    assert cache.damaged_files(folder) == []
    assert hidden_leftovers() == []


def test_two_processes_build_once(tmp_path):
    log = tmp_path / "log"
    first = start(log, "slow")
    assert first.stdout.readline() == "started\n"
    second = start(log, "slow")
    assert "waiting" in second.stdout.readline()
    first.communicate("go\n")
    output, _ = second.communicate()
    assert output == "done\n"
    assert (first.returncode, second.returncode) == (0, 0)
    assert log.read_text() == "built\n"


def test_manifest_lists_every_file():
    build, _ = writes()
    folder = cache.build_once("m", build, say=quiet)
    listed = json.loads((folder / cache.MANIFEST).read_text())["files"]
    assert set(listed) == {"model.safetensors", "sub/config.json"}
    assert listed["model.safetensors"]["bytes"] == 7
