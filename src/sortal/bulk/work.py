"""The folder of a prediction that is under way: finished shards, and whose they are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortal.bulk.storage import is_url, join, storage
from sortal.errors import RunFolderError
from sortal.training.lock import FolderLock

_MANIFEST = "manifest.json"
_SHARD = re.compile(r"(\d{5,})-(\d{7,})\.shard")
Place = tuple[int, int]
"""(input, shard), both from 0."""


@dataclass(frozen=True)
class Work:
    """Finished shards of ``what`` under ``folder``. Writing one again gives the same file, so it may happen twice."""

    folder: str
    what: str = "prediction"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time, where the place has locks; a folder without anything finished goes at the end.

        Raises:
            LockedError: another process writes there.
        """
        with nullcontext() if is_url(self.folder) else FolderLock(self.folder):
            try:
                yield
            finally:
                if not self._kept():
                    self.remove()

    def begin(self, identity: Mapping[str, Any], force: bool) -> set[Place]:
        """The shards that are finished already, after a check that they belong to this piece of work.

        Args:
            identity: what decides the content of every shard: readable keys, values that JSON keeps.
            force: throw away shards of another one.

        Raises:
            RunFolderError: they belong to another one, naming what differs.
        """
        names = storage(self.folder).names(self.folder)
        if _MANIFEST in names:
            different = _differences(self._manifest(), identity)
            if not different:
                return {(int(m[1]), int(m[2])) for name in names if (m := _SHARD.fullmatch(name))}
            if not force:
                raise RunFolderError(
                    f"{self.folder} holds finished parts of another {self.what}: {'; '.join(different)}",
                    "give the command that began it, choose another --out, or throw them away with --force",
                )
            for name in names - {".lock"}:
                storage(self.folder).delete(join(self.folder, name))
        self._put(_MANIFEST, json.dumps(identity, indent=1, ensure_ascii=True).encode())
        return set()

    def store(self, place: Place, data: bytes) -> None:
        """Keep a finished shard; when this returns, a kill or a power cut leaves it there."""
        self._put(_name(place), data)

    def shard(self, place: Place) -> bytes:
        """A finished shard."""
        return storage(self.folder).read(join(self.folder, _name(place)))

    def published(self, output: int) -> bool:
        """Whether the output of this number was put together already."""
        return storage(self.folder).exists(join(self.folder, f"{output:05}.published"))

    def publish(self, output: int, places: list[Place]) -> None:
        """Note that an output is complete at its own place, and drop its shards."""
        self._put(f"{output:05}.published", b"")
        for place in places:
            storage(self.folder).delete(join(self.folder, _name(place)))

    def remove(self) -> None:
        """Remove the folder."""
        storage(self.folder).delete(self.folder)

    def _put(self, name: str, data: bytes) -> None:
        storage(self.folder).write(join(self.folder, name), data)

    def _kept(self) -> bool:
        names = storage(self.folder).names(self.folder)
        return any(_SHARD.fullmatch(name) or name.endswith(".published") for name in names)

    def _manifest(self) -> dict[str, Any]:
        try:
            found = json.loads(storage(self.folder).read(join(self.folder, _MANIFEST)))
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}


def model_digest(folder: str | Path) -> str:
    """128 bits of SHA-256 (hex) over the files of a model folder; weights count by the sums in ``sortal.json``, the card not at all."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and path.suffix != ".safetensors" and path.name != "README.md":
            data = path.read_bytes()
            digest.update(f"{path.name} {len(data)} ".encode() + data)
    return digest.hexdigest()[:32]


def _name(place: Place) -> str:
    return f"{place[0]:05}-{place[1]:07}.shard"


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One readable line per difference, the first five."""
    plain = json.loads(json.dumps(now))
    keys = [key for key in dict.fromkeys([*saved, *plain]) if saved.get(key) != plain.get(key)]
    lines = [f"{key}: {_shown(saved.get(key))} → {_shown(plain.get(key))}" for key in keys[:5]]
    return lines + ([f"and {len(keys) - 5:,} more"] if len(keys) > 5 else [])


def _shown(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
