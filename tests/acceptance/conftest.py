"""Runs of method instruct, runs on trees of labels, and model folders of every method, made once for all files of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baseline_runs import baseline, topics
from browser import chromium
from instruct_runs import (
    LABELS,
    TOPICS,
    instruct,
    save_chat_model,
)
from served import Served
from tiny_runs import fit, rows, write_csv
from tree_runs import every_way, runs_on_paths
from visits import SETTLED, Visit, open_server


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


# labels that form a tree


@pytest.fixture(scope="session")
def tree_files(tmp_path_factory):
    """The same rows in every way that says a tree."""
    return every_way(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def tree_runs(tmp_path_factory, tree_files, tiny, tiny_encoders):
    """``tree_runs(method, task, mode)``: a run, made once for every combination asked for."""
    return runs_on_paths(tmp_path_factory, tree_files, tiny, tiny_encoders["bert"])


# model folders to serve


@pytest.fixture(scope="session")
def one_label(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "single.csv", rows(90, ("good", "bad", "odd")))


@pytest.fixture(scope="session")
def many_labels(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "multi.csv", topics(90))


@pytest.fixture(scope="session")
def made(one_label, many_labels, runs, tiny_models, tiny_encoders, tmp_path_factory):
    """``made(kind)``: the model folder of a small run."""
    folder = tmp_path_factory.mktemp("kinds")
    several = {"label_delimiter": "|"}
    free = {"epochs": None, "batch_size": None, "learning_rate": 2e-3, "head_learning_rate": 2e-3}
    llama, bert = tiny_models["llama"], tiny_encoders["bert"]
    makers: dict[str, Any] = {
        "head": lambda out: fit(one_label, llama, out),
        "head, abstaining": lambda out: fit(one_label, llama, out, abstain_below=0.6),
        "head, blended": lambda out: fit(one_label, llama, out, blend="tfidf"),
        "head, bf16": lambda out: fit(one_label, llama, out, dtype="bfloat16"),
        "head, multi": lambda out: fit(many_labels, llama, out, **several),
        "probe": lambda out: fit(one_label, llama, out, method="probe", **free),
        "encoder": lambda out: fit(one_label, bert, out, method="encoder", max_length=100),
        "encoder, multi": lambda out: fit(
            many_labels, bert, out, method="encoder", max_length=100, **several
        ),
        "tfidf": lambda out: baseline(one_label, out),
        "tfidf, abstaining": lambda out: baseline(one_label, out, abstain_below=0.9),
        "tfidf, multi": lambda out: baseline(many_labels, out, **several),
        "majority": lambda out: baseline(one_label, out, "majority"),
        "majority, multi": lambda out: baseline(many_labels, out, "majority", **several),
    }

    def make(kind: str) -> Path:
        if kind.startswith("instruct, "):
            return runs(form=kind.removeprefix("instruct, ")).model
        out = folder / kind
        if not out.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SORTAL_CACHE", str(folder / "cache"))
                makers[kind](out)
        return out / "model"

    return make


# the page of a server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright (pip install playwright)")
    path = chromium()
    sync_api.expect.set_options(timeout=SETTLED)
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """``visit(url)`` opens the page; at the end every page that was opened must have been silent."""
    visits: list[Visit] = []

    def opened(url: str, **settings: Any) -> Visit:
        visits.append(Visit.open(browser, url, **settings))
        return visits[-1]

    yield opened
    for one in visits:
        one.page.context.close()
        one.silent()


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of twelve labels, one of them markup."""
    folder = tmp_path_factory.mktemp("many")
    labels = (*(f"topic_{n:02}" for n in range(11)), "<img src=x onerror=alert(1)>")
    baseline(write_csv(folder / "data.csv", rows(240, labels)), folder / "run")
    return folder / "run" / "model"


@pytest.fixture(scope="module")
def site(made: Callable[[str], Path], many: Path) -> Iterator[tuple[str, Served]]:
    """The address of a server with several models, and the server."""
    kinds = {"single": "tfidf", "several": "tfidf, multi", "unsure": "tfidf, abstaining"}
    with open_server({name: made(kind) for name, kind in kinds.items()} | {"many": many}) as opened:
        yield opened
