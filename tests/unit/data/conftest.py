"""Fixtures of the data tests: a recorder for what is said, a writer for small files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


class Heard(list[str]):
    """Collects messages; ``in`` looks inside them."""

    def __call__(self, message: str) -> None:
        self.append(message)

    def about(self, part: str) -> bool:
        return any(part in message for message in self)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write
