"""States of texts on disk: read once per model, found again by every later run, and never more than a set size.

One folder per model and precision, with two files that only grow: ``states.f16``, one row of float16 per text, and
``keys.bin``, 16 bytes per row, written after it. What a killed process left half-written is cut off when it is opened again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.methods.state_folders import alone_with, append, make_room, state_folder

_KEY = 16
States = npt.NDArray[np.float16]


def states_key(ids: npt.NDArray[np.int32], skip: int) -> bytes:
    """What a row of states depends on besides the model: the token ids, and how many of them a mean leaves out."""
    return hashlib.blake2b(np.int32(skip).tobytes() + ids.tobytes(), digest_size=_KEY).digest()


class StateCache:
    """``with StateCache(facts, shape) as cache:`` — alone with the folder of what ``facts`` describe.

    Args:
        facts: all that decides the states besides the text; JSON-able.
        shape: of one text's states.

    Raises:
        LockedError: another process keeps the folder for an hour.
    """

    def __init__(self, facts: dict[str, Any], shape: Sequence[int]) -> None:
        self.facts, self.shape = facts, tuple(shape)
        self.folder = state_folder([facts, self.shape])
        self.row_bytes = 2 * int(np.prod(self.shape))
        self._alone = ExitStack()
        self._rows: dict[bytes, int] = {}

    def __enter__(self) -> StateCache:
        self._alone.enter_context(alone_with(self.folder, self.facts))
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alone.close()

    @property
    def _states(self) -> Path:
        return self.folder / "states.f16"

    @property
    def _keys(self) -> Path:
        return self.folder / "keys.bin"

    def _open(self) -> None:
        keys = self._keys.read_bytes() if self._keys.exists() else b""
        size = self._states.stat().st_size if self._states.exists() else 0
        whole = min(len(keys) // _KEY, size // self.row_bytes)
        self._cut(whole)
        self._rows = {keys[i * _KEY : (i + 1) * _KEY]: i for i in range(whole)}

    def _cut(self, rows: int) -> None:
        for path, width in ((self._keys, _KEY), (self._states, self.row_bytes)):
            with path.open("ab") as file:
                file.truncate(rows * width)

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Positions in ``keys`` of rows that are not there; of equal keys only the first."""
        seen: set[bytes] = set()
        found = []
        for position, key in enumerate(keys):
            if key not in self._rows and key not in seen:
                found.append(position)
            seen.add(key)
        return found

    def make_room(self, rows: int) -> None:
        """See to it that so many rows can be added: folders not used for longest go first, then this one's own rows.

        Raises:
            ResourceError: they alone are more than may be kept.
            ConfigError: the limit is no number.
        """
        mine, needed = (n * self.row_bytes for n in (len(self._rows), rows))
        if make_room(self.folder, mine, needed, f"lower probe_rows (now {rows:,} texts)"):
            self._cut(0)
            self._rows.clear()

    def add(self, keys: Sequence[bytes], states: States) -> None:
        """Append rows ``[n, *shape]``; they are there for good once this returns."""
        first = len(self._rows)
        append(self._states, states.tobytes())
        append(self._keys, b"".join(keys))
        self._rows.update({key: first + i for i, key in enumerate(keys)})

    def read(self, keys: Sequence[bytes]) -> CachedStates:
        """The rows of ``keys``, which must all be there, on disk until they are asked for."""
        every: States = np.memmap(
            self._states, dtype=np.float16, mode="r", shape=(len(self._rows), *self.shape)
        )
        return CachedStates(every, np.array([self._rows[key] for key in keys], dtype=np.int64))


class CachedStates:
    """Some rows of a memory-mapped cache."""

    def __init__(self, every: States, rows: npt.NDArray[np.int64]) -> None:
        self._every, self._rows = every, rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one text's states."""
        return self._every.shape[1:]

    def split(self, rows: int) -> tuple[CachedStates, CachedStates]:
        """The first ``rows`` and the others."""
        return CachedStates(self._every, self._rows[:rows]), CachedStates(self._every, self._rows[rows:])

    def __getitem__(self, index: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """What stands at ``index`` of every row's states, fp32 ``[rows, …]``."""
        picked: npt.NDArray[np.float32] = self._every[(self._rows, *index)].astype(np.float32)
        return picked
