"""One writer per folder, by a lock the kernel drops when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from sortal.errors import LockedError, RunFolderError

LOCK_NAME = ".lock"

_held: set[int] = set()


class FolderLock:
    """``with FolderLock(folder):`` — this process alone writes to ``folder``, which is made if it is missing.

    The lock is ``flock`` on ``<folder>/.lock``; the file's content only serves the message. It is removed at the
    end, and stays without effect when the process is killed. With several processes per run, the main one locks.

    Raises:
        LockedError: a live process holds the lock.
        RunFolderError: the folder cannot be made or written, or its file system has no locks.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / LOCK_NAME
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self._descriptor is None:
                self._descriptor = self._try()
        except OSError as error:
            reason = "its file system has no locks" if error.errno in _NO_LOCKS else error.strerror
            raise RunFolderError(
                f"{self.path.parent} cannot be locked for this run: {reason}", "choose another --out"
            ) from error
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": _now()}
        with contextlib.suppress(OSError):  # a full disk only costs the message its detail
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor in _held:  # not in a forked child, which only inherited this object
            # Removed before it is unlocked: nobody can lock the file in between and lose it.
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            _held.discard(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None

    def _try(self) -> int | None:
        """The descriptor of the locked file, or None when its last holder removed the file meanwhile."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                _held.add(descriptor)
                return descriptor
        except BlockingIOError:
            holder = _describe(descriptor)
            os.close(descriptor)
            raise LockedError(
                f"{self.path.parent} is in use by {holder}",
                "wait for it to end, stop it, or choose another --out",
            ) from None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None


_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def _describe(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _drop_in_child() -> None:
    # A forked worker shares the lock; left open there, it would outlive a killed parent.
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_drop_in_child)
