"""The model cache: a folder is either complete under its final name or not there at all.

A folder is built under a temporary sibling name, hashed, fsynced and renamed. A lock of the operating system,
which a dead process cannot hold, makes two processes that want the same model build it once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sortal.errors import ResourceError

MANIFEST = "sortal_cache.json"
Say = Callable[[str], object]
Build = Callable[[Path, Path], dict[str, Any]]


def say_on_stderr(message: str) -> None:
    """The default way to tell the user what takes long: stdout belongs to answers."""
    print(message, file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """``$SORTAL_CACHE``, else ``sortal`` below the user's cache folder (not created here)."""
    if chosen := os.environ.get("SORTAL_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sortal"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "sortal" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sortal"


def folder_of(key: str) -> Path:
    """Where the cached model ``key`` lies, or would lie."""
    return cache_dir() / "models" / re.sub(r"[^A-Za-z0-9._-]+", "-", key)


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest of a cached folder, or None when there is none that can be read."""
    try:
        loaded = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    files = loaded.get("files") if isinstance(loaded, dict) else None
    valid = isinstance(files, dict) and all(
        isinstance(f, dict) and {"bytes", "sha256"} <= f.keys() for f in files.values()
    )
    return loaded if valid and files else None


def is_complete(folder: Path) -> bool:
    """Whether every file of the manifest is there with its size; cheap enough for every start."""
    manifest = manifest_of(folder)
    if manifest is None:
        return False
    sizes = {name: facts["bytes"] for name, facts in manifest["files"].items()}
    return all((folder / n).is_file() and (folder / n).stat().st_size == size for n, size in sizes.items())


def damaged_files(folder: Path) -> list[str]:
    """Names whose size or SHA-256 differs from the manifest; reads every byte."""
    manifest = manifest_of(folder)
    if manifest is None:
        return [MANIFEST]
    return [
        name
        for name, facts in manifest["files"].items()
        if not (folder / name).is_file()
        or (folder / name).stat().st_size != facts["bytes"]
        or sha256_of(folder / name) != facts["sha256"]
    ]


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entries() -> list[Path]:
    """The complete model folders of the cache, newest first."""
    root = cache_dir() / "models"
    found = (
        [p for p in root.iterdir() if not p.name.startswith(".") and is_complete(p)] if root.is_dir() else []
    )
    return sorted(found, key=lambda p: (p / MANIFEST).stat().st_mtime, reverse=True)


def build_once(
    key: str, build: Build, *, need_bytes: int = 0, say: Say = say_on_stderr, check: bool = False
) -> Path:
    """The cached folder ``key``, built now if it is missing, incomplete or damaged.

    Args:
        key: stable name of what is cached, version included.
        build: called as ``build(out, scratch)`` with two empty folders; fills ``out`` and returns facts for the
            manifest. It must not touch the final folder.
        need_bytes: disk space the build takes at its peak.
        say: told about waiting and rebuilding.
        check: read every byte of an existing folder and rebuild it when a hash differs.

    Raises:
        ResourceError: not enough disk space, or a cache folder that cannot be written.
    """
    final = folder_of(key)
    if _usable(final, check):
        return final
    models = final.parent
    with _full_disk_explained(models, need_bytes):
        try:
            models.mkdir(parents=True, exist_ok=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise _unwritable(error) from error
        with _locked(models / f".{final.name}.lock", final.name, say):
            if _usable(final, check):
                return final
            if final.exists():
                say(f"The cached model in {final} is incomplete or damaged: building it again.")
            return _build(final, build, need_bytes)


def _usable(folder: Path, check: bool) -> bool:
    return not damaged_files(folder) if check else is_complete(folder)


def _build(final: Path, build: Build, need_bytes: int) -> Path:
    # One fixed name: whoever holds the lock may delete it, so a killed build leaves nothing behind for long.
    staging = final.parent / f".{final.name}.building"
    shutil.rmtree(staging, ignore_errors=True)
    free = shutil.disk_usage(final.parent).free
    if free < need_bytes:
        raise ResourceError(
            f"preparing {final.name} needs {need_bytes} bytes in {final.parent}, {free} are free",
            "free some space, or point SORTAL_CACHE to a bigger disk",
        )
    out, scratch = staging / "out", staging / "scratch"
    try:
        out.mkdir(parents=True)
        scratch.mkdir()
        facts = build(out, scratch)
        _seal(out, facts)
        if final.exists():
            final.rename(staging / "replaced")
        out.rename(final)
        _sync(final.parent)
    except PermissionError as error:
        raise _unwritable(error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return final


def _seal(folder: Path, facts: dict[str, Any]) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    listed = {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in files
    }
    manifest = folder / MANIFEST
    manifest.write_text(
        json.dumps({**facts, "files": listed}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    for path in files:
        path.chmod(
            manifest.stat().st_mode
        )  # some writers make files private, which breaks a cache shared by a team
    for path in (*files, manifest, folder):
        _sync(path)


def _sync(path: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there, and rename is durable enough for a cache
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path, name: str, say: Say) -> Iterator[None]:
    try:
        handle = path.open("a+b")
    except PermissionError as error:
        raise _unwritable(error) from error
    with handle:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"Another process is preparing {name}: waiting for it.")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _full_disk_explained(folder: Path, need_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        need = f"about {need_bytes} bytes are needed" if need_bytes else "the model did not fit"
        raise ResourceError(
            f"the disk is full in {folder}: {need}; the unfinished copy was removed",
            "free some space, or point SORTAL_CACHE to a bigger disk",
        ) from error


def _unwritable(error: OSError) -> ResourceError:
    return ResourceError(
        f"the model cache cannot be written ({error})", "set SORTAL_CACHE to a folder you may write to"
    )
