"""The order in which the study's runs are made: members before their sum, a model before its blend."""

from __future__ import annotations

import json
from concurrent.futures import Future
from types import SimpleNamespace

from benchmarks.paper import pool

from sortal.comparison.worker import die_with_parent
from tiny_runs import rows, write_csv


class AtOnce:
    """Runs what is submitted before it answers."""

    def __init__(self, jobs, context, initializer, **settings):
        assert initializer is die_with_parent, "a run goes on alone when the study is killed"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *given):
        future = Future()
        try:
            future.set_result(function(*given))
        except Exception as error:
            future.set_exception(error)
        return future


def test_sums_and_blends_are_made_of_what_is_there(tmp_path, monkeypatch, capsys):
    data = write_csv(tmp_path / "data.csv", rows(30, ("odd", "good", "bad")))
    made = []

    def train(cell, parts):
        made.append((cell.name, {part: folder.name for part, folder in parts.items()}))
        if cell.name == "encoder-1":
            raise RuntimeError("no memory")
        cell.folder.path.mkdir(parents=True)
        (cell.folder.path / "run.json").write_text(json.dumps({"status": "finished"}))
        return "done"

    monkeypatch.setattr(pool, "ProcessPoolExecutor", AtOnce)
    monkeypatch.setattr(pool, "train", train)
    arguments = SimpleNamespace(
        methods=["head+encoder", "head+tfidf", "head", "encoder", "tfidf"], seeds=2, first_seed=0, jobs=2
    )
    pool.train_all({tmp_path / "set": {"data": str(data)}}, arguments)
    order = [name for name, _ in made]
    assert len(order) == len(set(order)) == 9
    for seed in (0, 1):
        assert order.index(f"head+encoder-{seed}") > max(
            order.index(f"{m}-{seed}") for m in ("head", "encoder")
        )
        parts = {"tuned": f"head-{seed}", "tfidf": "tfidf-0"}
        assert (f"head+tfidf-{seed}", parts) in made
    assert "encoder-1  no memory" in capsys.readouterr().out
    made.clear()
    pool.train_all({tmp_path / "set": {"data": str(data)}}, arguments)
    assert [name for name, _ in made] == ["encoder-1"], "what is finished is not made again"
    made.clear()
    later = SimpleNamespace(methods=["head+tfidf", "head", "tfidf"], seeds=3, first_seed=2, jobs=1)
    pool.train_all({tmp_path / "other": {"data": str(data)}}, later)
    assert sorted(name for name, _ in made) == ["head+tfidf-2", "head-2", "tfidf-0"]
