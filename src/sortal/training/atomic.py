"""Files and folders that appear at their name complete, or not at all.

Everything is written to a hidden temporary sibling, fsynced and renamed, so a crash, a kill or a full disk at
any instant leaves the earlier version as it was. A killed process may leave temporaries: `remove_leftovers`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sortal.errors import ResourceError

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp|old)-\d+-[0-9a-f]{8}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write ``data`` to ``path``, replacing an earlier version in one step; missing parents are made.

    Raises:
        ResourceError: the disk is full (with the bytes needed and free) or the place cannot be written;
            an earlier version is intact.
    """
    path = Path(path).resolve()
    temporary = _sibling(path, "tmp")
    with _readable_errors(path), _removed_on_failure(path, temporary, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    return path


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield the name of a temporary file that becomes ``path`` when the block ends without an exception; for what is streamed.

    Raises:
        ResourceError: as `write_bytes`; an earlier version is intact.
    """
    path = Path(path).resolve()
    temporary = _sibling(path, "tmp")
    with _readable_errors(path), _removed_on_failure(path, temporary, None):
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)


def write_text(path: str | Path, text: str) -> Path:
    """`write_bytes` of ``text`` in UTF-8."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> Path:
    """`write_bytes` of ``value`` as indented JSON; NaN and infinities, which JSON lacks, become null."""
    value = _finite(value)
    try:
        data = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate can only be written escaped
        data = json.dumps(value, indent=2, allow_nan=False).encode("ascii")
    return write_bytes(path, data + b"\n")


@contextlib.contextmanager
def atomic_folder(path: str | Path, needed: int | None = None) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes ``path`` when the block ends without an exception.

    An existing folder at ``path`` is kept until the new one is complete on disk, then replaced.

    Args:
        path: the final name; missing parents are made.
        needed: bytes that will be written, for the message of a full disk; default: what was written so far.

    Raises:
        ResourceError: the disk is full, or ``path`` cannot be written; an earlier version is intact.
    """
    path = Path(path).resolve()
    temporary = _sibling(path, "tmp")
    with _removed_on_failure(path, temporary, needed):
        with _readable_errors(path):
            if path.exists() and not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "a file has this name")
            temporary.mkdir(parents=True)
        yield temporary
        with _readable_errors(path):
            _share_tree(temporary, temporary.stat().st_mode & 0o666)
            _sync_tree(temporary)
            _publish(temporary, path)


def discard_folder(path: Path) -> None:
    """Remove a folder so that a kill half-way leaves a temporary, never a folder with files missing."""
    with contextlib.suppress(OSError):
        _remove(path.rename(_sibling(path, "tmp")))


def remove_leftovers(folder: Path) -> None:
    """Clear what a killed process left in ``folder``: drop temporaries, put back a version being replaced.

    The caller makes sure that no live process is writing there (`sortal.training.lock.FolderLock`).
    """
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _LEFTOVER.fullmatch(entry.name)
        if match is None:
            continue
        final = folder / match["name"]
        if match["kind"] == "old" and not final.exists():
            entry.rename(final)
        else:
            _remove(entry)


def is_leftover(name: str) -> bool:
    """Whether a file name is one of this module's temporaries."""
    return _LEFTOVER.fullmatch(name) is not None


def _sibling(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def _publish(temporary: Path, path: Path) -> None:
    old = _sibling(path, "old")
    try:
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    _sync_folder(path.parent)
    _remove(old)


@contextlib.contextmanager
def _removed_on_failure(path: Path, temporary: Path, needed: int | None) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        written = _size(temporary)
        _remove(temporary)
        if _is_disk_full(error):
            raise _disk_full(path, needed, written) from error
        raise


@contextlib.contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if _is_disk_full(error):
            raise
        raise ResourceError(
            f"cannot write {path}: {error.strerror or error}", "check the folder, or choose another one"
        ) from error


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    # safetensors reports the system's error as text only
    return not isinstance(error, ResourceError) and "(os error 28)" in str(error)


def _disk_full(path: Path, needed: int | None, written: int) -> ResourceError:
    place = next(folder for folder in path.parents if folder.is_dir())
    need = f"{needed:,} bytes are needed" if needed is not None else f"more than {written:,} bytes are needed"
    kept = f"; the earlier {path.name} is intact" if path.exists() else ""
    return ResourceError(
        f"the disk is full: {path} could not be written, {need} and "
        f"{shutil.disk_usage(place).free:,} are free in {place}{kept}",
        "free some space there, or choose a folder on another disk",
    )


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    return 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _share_tree(folder: Path, mode: int) -> None:
    # safetensors makes its files private; a model folder is read by whoever may read the folder.
    for entry in folder.rglob("*"):
        if entry.is_file() and not entry.is_symlink():
            entry.chmod(mode)


def _sync_tree(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_symlink():
            continue
        if entry.is_dir():
            _sync_tree(entry)
        else:
            with entry.open("rb") as file:
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot sync a folder; the rename still holds
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
