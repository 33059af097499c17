"""Acceptance case F12: bulk prediction killed at row k goes on there, and gives what an uninterrupted one gives."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import Command
from sortal.bulk import plan as bulk_plan
from sortal.bulk.work import Work
from sortal.cli.main import main
from sortal.evaluation.predictions import read_predictions
from tiny_runs import edit_json, rows, write_csv

ROWS, SHARD = 90, 20


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_plan, "SHARD_ROWS", SHARD)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for text, _ in rows(ROWS, ("good", "bad", "odd"))]


@pytest.fixture
def data(texts: list[str], tmp_path: Path) -> Path:
    return write_csv(tmp_path / "d.csv", [(text, f"id{i}") for i, text in enumerate(texts)], ("text", "key"))


def killed_at(moment: int, number: int = signal.SIGKILL) -> None:
    """A signal at that fsync or rename (1-based) of the process, of which there are some for every shard."""
    bulk_plan.SHARD_ROWS = SHARD
    seen = 0

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), number)
            return function(*arguments)

        return call

    os.fsync, Path.replace = around(os.fsync), around(Path.replace)  # type: ignore[method-assign]


def stopped_while_scoring(shard: int, number: int) -> None:
    """A signal while that shard (from 0) is scored."""
    from sortal.bulk.scoring import ShardScorer

    bulk_plan.SHARD_ROWS = SHARD
    answer, seen = ShardScorer.answer, 0

    def answered(self: Any, *arguments: Any) -> Any:
        nonlocal seen
        if seen == shard:
            os.kill(os.getpid(), number)
        seen += 1
        return answer(self, *arguments)

    ShardScorer.answer = answered  # type: ignore[method-assign]


def predict(model: Path, *words: str | Path, code: int = 0) -> None:
    assert main(["predict", str(model), *map(str, words)]) == code


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.shard"))


# Writing a file has three such moments: its bytes, its name, its folder. In a new prediction the manifest is the first file.
KILLS = {
    # (moment, shards that are kept): twice among the shards, before and after the result appears, before and after it is noted.
    ("tfidf, multi", "csv"): [(5, 0), (8, 2), (11, 5), (3, 5), (5, 5), (6, 5)],
    ("head", "jsonl"): [(12, 3)],
    ("encoder", "parquet"): [(8, 1), (10, 4)],
}


@pytest.mark.parametrize(("kind", "suffix"), KILLS)
def test_a_killed_prediction_goes_on_and_ends_as_if_nothing_had_happened(
    made, data, tmp_path, capsys, kind, suffix
):
    model = made(kind)
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / "o" / f"p.{suffix}"
    out.parent.mkdir()
    predict(model, data, "--id", "key", "--out", whole)
    words = (model, data, "--id", "key", "--out", out)
    for moment, shards in KILLS[kind, suffix]:
        command = Command("predict", *words, folder=tmp_path, before=partial(killed_at, moment))
        assert command.wait() == -signal.SIGKILL, command.stderr
        assert len(kept(out.parent)) == shards
        assert not out.exists() or out.read_bytes() == whole.read_bytes(), "complete or absent"
    capsys.readouterr()
    predict(*words)
    assert "rows were finished before; going on with the others" in capsys.readouterr().err
    assert out.read_bytes() == whole.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_says_what_is_kept_and_what_to_do(made, data, tmp_path, number):
    words = ("predict", made("tfidf"), data, "--out", tmp_path / "p.csv")
    stopped = Command(*words, folder=tmp_path, before=partial(stopped_while_scoring, 2, number))
    assert stopped.wait() == 128 + number
    assert stopped.stderr.endswith(
        f"stopped by {number.name}; 40 of 90 rows are kept\n→ give the same command again to go on\n"
    )
    assert kept(tmp_path) == ["00000-0000000.shard", "00000-0000001.shard"]
    assert not (tmp_path / "p.csv").exists()
    at_once = Command(*words, folder=tmp_path, before=partial(stopped_while_scoring, 0, number))
    assert at_once.wait() == 128 + number
    assert "40 of 90 rows are kept" in at_once.stderr
    predict(*words[1:])
    with (tmp_path / "p.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [str(n) for n in range(1, ROWS + 1)]
    assert not list(tmp_path.glob(".*.sortal-predict"))


def test_only_what_is_missing_is_scored_again(made, data, tmp_path, monkeypatch):
    from sortal.bulk.scoring import ShardScorer

    out, scored = tmp_path / "p.jsonl", []
    answer, store = ShardScorer.answer, Work.store

    def stored(self: Work, place: Any, answers: bytes) -> None:
        if place == (0, 3):
            raise OSError(errno.EIO, "Input/output error", str(out))
        store(self, place, answers)

    monkeypatch.setattr(Work, "store", stored)
    predict(made("tfidf"), data, "--out", out, code=3)
    monkeypatch.setattr(Work, "store", store)

    def answered(self: Any, given: Any, *more: Any) -> Any:
        scored.append(given.ids[0])
        return answer(self, given, *more)

    monkeypatch.setattr(ShardScorer, "answer", answered)
    predict(made("tfidf"), data, "--out", out)
    assert scored == ["61", "81"]
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [
        str(n) for n in range(1, ROWS + 1)
    ]


def test_a_full_disk_is_said_and_what_is_finished_is_kept(made, data, tmp_path, monkeypatch, capsys):
    from sortal.training import atomic

    out, fsync, calls = tmp_path / "p.csv", os.fsync, 0
    out.write_text("the earlier one")

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", full)
    predict(made("tfidf"), data, "--out", out, code=3)
    assert "error: the disk is full" in capsys.readouterr().err
    assert out.read_text() == "the earlier one"
    monkeypatch.setattr(atomic.os, "fsync", fsync)
    assert kept(tmp_path) == ["00000-0000000.shard", "00000-0000001.shard"][: len(kept(tmp_path))]
    predict(made("tfidf"), data, "--out", out)
    assert len(out.read_text().splitlines()) == ROWS + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "p.csv"]


DECISION = {"task": "single", "thresholds": None, "abstain_below": None}
CHANGES = {
    "the data": lambda data, model: write_csv(data, [("other", "id0")] * ROWS, ("text", "key")),
    "one row more": lambda data, model: data.write_text(data.read_text() + "more,id91\n"),
    "the model": lambda data, model: edit_json(
        model / "sortal.json", decision={**DECISION, "temperature": 9.0}
    ),
}


@pytest.mark.parametrize("change", [*CHANGES, "--top", "--id"])
def test_something_else_is_not_mixed_with_what_is_kept(made, data, tmp_path, capsys, change):
    model, out = tmp_path / "model", tmp_path / "p.jsonl"
    shutil.copytree(made("tfidf"), model)
    words = ["predict", model, data, "--out", out]
    stop = partial(stopped_while_scoring, 2, signal.SIGTERM)
    assert Command(*words, folder=tmp_path, before=stop).wait() == 143
    more = {"--top": ["--top", "2"], "--id": ["--id", "key"]}.get(change, [])
    if not more:
        CHANGES[change](data, model)
    before = kept(tmp_path)
    predict(*words[1:], *more, code=2)
    said = capsys.readouterr().err
    assert "holds finished parts of another prediction: " in said
    assert {"the model": "model: ", "--top": "--top: none → 2"}.get(change, "input 1: ") in said
    assert "or throw them away with --force" in said
    assert kept(tmp_path) == before
    assert not out.exists()
    predict(*words[1:], *more, "--force")
    fresh = tmp_path / "fresh.jsonl"
    predict(model, data, "--out", fresh, *more)
    assert out.read_bytes() == fresh.read_bytes()


def test_a_second_process_is_kept_out(made, data, tmp_path, capsys):
    with Work(str(tmp_path / ".p.csv.sortal-predict")).locked():
        predict(made("tfidf"), data, "--out", tmp_path / "p.csv", code=3)
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err


# Many files.


@pytest.fixture
def folder(texts: list[str], tmp_path: Path) -> Path:
    """Four formats, one of them in a folder below; the texts in the order of their names."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    parts = [texts[i : i + 25] for i in range(0, ROWS, 25)]
    write_csv(root / "a.csv", [(text,) for text in parts[0]], ("text",))
    (root / "b.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in parts[1]).encode())
    )
    pq.write_table(pa.table({"text": parts[2]}), root / "c.parquet")
    (root / "sub" / "d.tsv").write_text("text\tx\n" + "".join(f"{text}\t1\n" for text in parts[3]))
    return root


def test_a_folder_becomes_a_folder_with_the_same_names_and_its_own_formats(
    made, folder, texts, tmp_path, capsys
):
    model, out = made("tfidf"), tmp_path / "out"
    capsys.readouterr()
    predict(model, folder, "--out", out, "--json")
    assert json.loads(capsys.readouterr().out) == {"rows": ROWS, "out": str(out)}
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    assert found == ["a.csv", "b.jsonl", "c.parquet", "sub", "sub/d.csv"]
    import sortal

    expected = sortal.load(model).predict(texts)
    labels: list[Any] = []
    with (out / "a.csv").open(newline="") as file:
        labels += [row["label"] for row in csv.DictReader(file)]
    labels += [json.loads(line)["label"] for line in (out / "b.jsonl").read_text().splitlines()]
    parquet = read_predictions(out / "c.parquet")
    assert parquet.ids == [str(n) for n in range(1, 26)]
    labels += [parquet.names[k] for k in parquet.predicted]
    with (out / "sub" / "d.csv").open(newline="") as file:
        labels += [row["label"] for row in csv.DictReader(file)]
    assert labels == expected


def test_several_inputs_in_one_file_have_the_file_in_their_row_numbers(made, folder, tmp_path, capsys):
    model, out = made("tfidf"), tmp_path / "p.jsonl"
    predict(model, folder, "--out", out)
    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert (ids[0], ids[25], ids[-1]) == ("a.csv:1", "b.jsonl.gz:1", "sub/d.tsv:15")
    assert len(set(ids)) == ROWS
    capsys.readouterr()
    predict(model, folder / "a.csv", folder / "*" / "d.tsv")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["id"] for line in (lines[0], lines[-1])] == ["a.csv:1", "sub/d.tsv:15"]


def test_a_killed_folder_goes_on_file_by_file(made, folder, tmp_path):
    model, whole, out = made("tfidf"), tmp_path / "whole", tmp_path / "out"
    predict(model, folder, "--out", whole, "--format", "csv")
    words = (model, folder, "--out", out, "--format", "csv")
    for moment, complete in ((22, {"a.csv"}), (20, {"a.csv", "b.csv"})):
        command = Command("predict", *words, folder=tmp_path, before=partial(killed_at, moment))
        assert command.wait() == -signal.SIGKILL, command.stderr
        assert {path.name for path in out.rglob("*.csv")} == complete, "files appear as they are finished"
        (out / "a.csv").unlink()  # a result that somebody removed is made again
    predict(*words)
    names = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*"))
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == names
    for path in whole.rglob("*.csv"):
        assert path.read_bytes() == (out / path.relative_to(whole)).read_bytes()


def test_a_bad_row_in_any_file_is_named_before_anything_is_scored(made, folder, tmp_path, capsys):
    (folder / "sub" / "e.jsonl").write_text('{"text": "a"}\n{"text": \n')
    predict(made("tfidf"), folder, "--out", tmp_path / "out", code=2)
    assert f"{folder / 'sub' / 'e.jsonl'}: row 2 (line 2): is not JSON" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "not even the folder"


def test_a_file_without_rows_among_others_gives_one_without_rows(made, folder, tmp_path, capsys):
    (folder / "empty.csv").write_text("text\n")
    predict(made("tfidf"), folder, "--out", tmp_path / "out")
    assert len((tmp_path / "out" / "empty.csv").read_text().splitlines()) == 1
    predict(made("tfidf"), folder / "empty.csv", "--out", tmp_path / "p.csv", code=2)
    assert "empty.csv has no rows" in capsys.readouterr().err


def test_urls_are_read_and_written(made, folder, tmp_path):
    model = made("tfidf")
    predict(model, folder, "--out", tmp_path / "paths")
    predict(model, f"file://{folder}", "--out", f"file://{tmp_path}/urls")
    paths, urls = tmp_path / "paths", tmp_path / "urls"
    names = sorted(path.relative_to(paths) for path in paths.rglob("*"))
    assert sorted(path.relative_to(urls) for path in urls.rglob("*")) == names
    for name in names:
        assert (paths / name).is_dir() or (paths / name).read_bytes() == (urls / name).read_bytes()


def test_stdin_goes_to_a_file_or_is_refused_for_a_folder(made, tmp_path, monkeypatch, capsys):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\npoor\n")))
    predict(made("tfidf"), "-", "--out", tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet").ids == ["1", "2"]
    predict(made("tfidf"), "-", "--out", tmp_path, code=2)
    assert "give the name of a file for the lines of stdin" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]
