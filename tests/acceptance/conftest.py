"""Runs of method instruct, made once for all files of this folder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from instruct_runs import (
    LABELS,
    TOPICS,
    instruct,
    save_chat_model,
)
from tiny_runs import rows, write_csv


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Training files of the three answer forms."""
    folder = tmp_path_factory.mktemp("data")
    topics = write_csv(
        folder / "topics.csv", [(f"{text} {i}", labels) for i in range(10) for text, labels in TOPICS]
    )
    return {
        "label": write_csv(folder / "data.csv", rows(48, LABELS)),
        "each": topics,
        "list": topics,
    }


@pytest.fixture(scope="session")
def bases(tiny_models, tmp_path_factory):
    """The tiny models, and one with merges, a beginning-of-sequence token and a chat format."""
    return {**tiny_models, "chat": save_chat_model(tmp_path_factory.mktemp("chat") / "chat")}


@pytest.fixture(scope="session")
def runs(tmp_path_factory, bases, files):
    """``runs(form, family, **settings)``: a run, made once for every combination asked for."""
    made: dict[tuple, SimpleNamespace] = {}

    def run(form="label", family="llama", **settings):
        key = (form, family, *sorted(settings.items()))
        if key not in made:
            base, out, said = bases[family], tmp_path_factory.mktemp("run") / "out", []
            result = instruct(files[form], base, out, form, said=said, **settings)
            made[key] = SimpleNamespace(
                result=result,
                classifier=result.classifier,
                scorer=result.classifier.scorer,
                model=out / "model",
                base=base,
                said=said,
            )
        return made[key]

    return run
