"""Folders of states in Sortal's cache: alone with one while it is written, and never more on disk than a set size."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sortal.backbone.cache import cache_dir
from sortal.errors import ConfigError, LockedError, ResourceError
from sortal.training.lock import FolderLock

LIMIT = "SORTAL_STATES_GB"
_DEFAULT_GB = 20.0
_WAIT_SECONDS = 3600.0


def state_folder(facts: Any) -> Path:
    """Where states are that ``facts`` describe completely; JSON-able."""
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir() / "states" / name


@contextmanager
def alone_with(folder: Path, facts: dict[str, Any]) -> Iterator[None]:
    """Inside, no other process writes to ``folder``; ``facts`` are kept in it for people.

    Raises:
        LockedError: another process keeps the folder for an hour.
    """
    lock, deadline = FolderLock(folder), time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            lock.__enter__()
            break
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
    try:
        # Its time of writing says when the folder was last used.
        (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        yield
    finally:
        lock.__exit__(None, None, None)


def make_room(folder: Path, mine: int, needed: int, instead: str) -> bool:
    """See to it that ``needed`` bytes can be added beside the ``mine`` that ``folder`` holds: those not used for longest go first.

    Args:
        instead: what else can be done when they alone are too much.

    Returns:
        whether the folder's own have to go as well.

    Raises:
        ResourceError: more than may be kept at all. ConfigError: the limit is no number.
    """
    limit = most_bytes()
    if needed > limit:
        raise ResourceError(
            f"the states take {needed / 1e9:.1f} GB, and {limit / 1e9:.1f} GB may be kept",
            f"{instead}, or raise {LIMIT}",
        )
    others = [path for path in folder.parent.iterdir() if path != folder and path.is_dir()]
    sizes = {path: _bytes(path) for path in others}
    for path in sorted(others, key=_used):
        if mine + needed + sum(sizes.values()) <= limit:
            return False
        with suppress(LockedError), FolderLock(path):  # one that is in use stays
            shutil.rmtree(path)
            del sizes[path]
    return mine + needed + sum(sizes.values()) > limit


def most_bytes() -> float:
    """Bytes that all states together may take on disk.

    Raises:
        ConfigError: the limit is no number.
    """
    given = os.environ.get(LIMIT, str(_DEFAULT_GB))
    try:
        return float(given) * 1e9
    except ValueError:
        raise ConfigError(f"{LIMIT} is {given!r}", "give a number of gigabytes") from None


def append(path: Path, content: bytes) -> None:
    """Add to a file; on the disk when this returns."""
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _used(folder: Path) -> float:
    facts = folder / "facts.json"
    return facts.stat().st_mtime if facts.exists() else 0.0
