"""A small trained run that the tests of this folder read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tiny_runs import rows, write_csv

SETTINGS = ["dtype=float32", "threads=1", "learning_rate=0.005", "head_learning_rate=0.05"]
SETTINGS += ["max_length=96", "n_resamples=100"]


@dataclass(frozen=True)
class Trained:
    """A finished run with the files it was made from."""

    folder: Path
    train: Path
    dev: Path
    test: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def model(self) -> Path:
        return self.run / "model"


@pytest.fixture(scope="session")
def train_words(tiny: Path) -> Callable[..., list[str]]:
    """``sortal train`` with these words for a quick run on the tiny model, and more settings."""

    def made(*given: str | Path, settings: tuple[str, ...] = ()) -> list[str]:
        words = ["train", *given, "--model", tiny, "--batch-size", 8, "--set", *SETTINGS, *settings]
        return [str(word) for word in words]

    return made


@pytest.fixture(scope="session")
def trained(train_words: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three labels, dev and test files given, four epochs."""
    from sortal.cli.main import main

    folder = tmp_path_factory.mktemp("trained")
    made = rows(120, ("good", "bad", "odd"))
    files = [
        write_csv(folder / f"{name}.csv", part)
        for name, part in (("train", made[:72]), ("dev", made[72:96]), ("test", made[96:]))
    ]
    words = ["--dev", files[1], "--test", files[2], "--epochs", "4", "--out", folder / "run"]
    assert main(train_words(files[0], *words)) == 0
    return Trained(folder, *files)
