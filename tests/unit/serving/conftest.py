"""Model folders of the methods that need no base model."""

from __future__ import annotations

from pathlib import Path

import pytest

from baseline_runs import baseline, topics
from tiny_runs import rows, write_csv


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``tfidf`` model of three labels."""
    folder = tmp_path_factory.mktemp("single")
    data = write_csv(folder / "data.csv", rows(120, ("good", "bad", "odd")))
    baseline(data, folder / "run")
    return folder / "run" / "model"


@pytest.fixture(scope="session")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``tfidf`` model with several labels per row."""
    folder = tmp_path_factory.mktemp("multi")
    data = write_csv(folder / "data.csv", topics(100))
    baseline(data, folder / "run", label_delimiter="|")
    return folder / "run" / "model"
