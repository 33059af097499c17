"""``sortal compare``: one split, resumable cells, tests that claim no more than they can."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from compared_runs import SETTINGS, compared, figures, noisy
from sortal.comparison.cells import Cell, plan
from sortal.comparison.compare import compare
from sortal.comparison.worker import start_cell
from sortal.config import build_config
from sortal.errors import ConfigError, DataError, RunFolderError
from sortal.evaluation.predictions import read_predictions
from sortal.training.lock import FolderLock
from sortal.training.runfolder import RunFolder
from tiny_runs import rows, write_csv


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return noisy(tmp_path_factory.mktemp("compare") / "data.csv")


@pytest.fixture(scope="module")
def made(data, tiny, tmp_path_factory):
    """A finished comparison and its folder."""
    out = tmp_path_factory.mktemp("made") / "out"
    return compared(data, tiny, out), out


def test_every_cell_is_a_run_on_the_same_split(made):
    found, out = made
    assert [cell["name"] for cell in found.cells] == ["majority-0", "head-0", "head-1"]
    assert {cell["status"] for cell in found.cells} == {"finished"}
    runs = [json.loads((out / "runs" / c["name"] / "run.json").read_text()) for c in found.cells]
    assert len({json.dumps(run["identity"]["data"]) for run in runs}) == 1
    assert len({json.dumps(run["identity"]["seed"]) for run in runs}) == 2
    predictions = [read_predictions(out / "runs" / c["name"] / "predictions.parquet") for c in found.cells]
    assert all(p.ids == predictions[0].ids for p in predictions)
    assert (out / "split.parquet").exists()


def test_the_figures_are_those_of_the_runs(made):
    found, out = made
    for summary in found.methods:
        folders = list((out / "runs").glob(f"{summary.method}-*"))
        assert len(folders) == summary.runs == (1 if summary.method == "majority" else 2)
        measured = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
        assert summary.value == pytest.approx(np.mean([m["accuracy"] for m in measured]), abs=1e-12)
        assert summary.quality["f1_macro"] == pytest.approx(np.mean([m["f1_macro"] for m in measured]))
        assert summary.interval[0] <= summary.value <= summary.interval[1]
        assert 0 <= summary.interval[0] < summary.interval[1] <= 1
    (head,) = [summary for summary in found.methods if summary.method == "head"]
    assert {
        "trainable_parameters",
        "train_seconds",
        "tokens_per_second",
        "peak_memory_bytes",
        "texts_per_second",
        "seconds_per_text_alone",
        "model_bytes",
        "base_model_bytes",
    } == set(head.cost)
    assert all(value > 0 for value in head.cost.values())


def test_the_pair_is_tested_and_the_advice_follows_the_test(made):
    found, _ = made
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.runs_a, pair.runs_b) == ("majority", "head", 1, 2)
    head, majority = (
        next(m.value for m in found.methods if m.method == name) for name in ("head", "majority")
    )
    assert pair.difference == pytest.approx(majority - head)
    assert "head has the highest accuracy" in found.advice[0]
    assert ("No method is the best" in found.advice[0]) == (pair.winner is None)


def test_what_every_method_misses_is_listed_with_its_text(made, data):
    found, out = made
    runs = [read_predictions(out / "runs" / f"head-{seed}" / "predictions.parquet") for seed in (0, 1)]
    missed = np.flatnonzero(np.all([run.predicted != run.gold for run in runs], axis=0))
    assert found.mistakes.missed == len(missed) > 0
    ids, texts = runs[0].ids, dict(enumerate(data.read_text(encoding="utf-8").splitlines()))
    assert {row.id for row in found.mistakes.rows} == {ids[i] for i in missed}
    for row in found.mistakes.rows:
        assert row.answers["head"] != row.gold
        assert any(line.rsplit(",", 1) == [row.text, row.gold[0]] for line in texts.values())
    by_length = [part for part in found.mistakes.slices if "words" in part.name]
    assert sum(part.rows for part in by_length) == found.n
    (head,) = [summary.value for summary in found.methods if summary.method == "head"]
    assert sum(part.rows * part.values["head"] for part in by_length) == pytest.approx(found.n * head)


def test_a_finished_comparison_is_only_read(made, data, tiny, monkeypatch):
    found, out = made
    monkeypatch.setattr(
        "sortal.comparison.compare.start_cell", lambda *_: pytest.fail("nothing is left to run")
    )
    again = compared(data, tiny, out)
    assert figures(again.to_json()) == figures(found.to_json())
    assert json.loads((out / "comparison.json").read_text())["advice"] == found.advice


def test_other_settings_or_data_are_refused_in_the_same_folder(made, data, tiny, tmp_path):
    _, out = made
    with pytest.raises(RunFolderError, match=r"head-0 holds a run of head that differs: lora_r: 8 → 4"):
        compared(data, tiny, out, **{"head.lora_r": 4})
    fewer = write_csv(tmp_path / "data.csv", rows(200, ("good", "bad", "odd")))
    with pytest.raises(RunFolderError, match="train data"):
        compared(fewer, tiny, out)


def test_killed_at_any_moment_it_goes_on_to_the_same_table(made, data, tiny, tmp_path):
    """SIGKILL of the comparison stops its cell, too; what is finished is kept."""
    found, out = made[0], tmp_path / "out"
    words = ["compare", data, "--methods", "majority,head", "--seeds", 2, "--out", out, "--model", tiny]
    words += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "sortal", *map(str, words)]
    env = {**os.environ, "SORTAL_DEVICE": "cpu"}
    for marks in (("runs/head-0/run.json",), ("runs/head-1/run.json",)):
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not all((out / mark).exists() for mark in marks) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert figures(json.loads((out / "comparison.json").read_text())) == figures(found.to_json())


def test_a_stop_reaches_the_cell_and_says_so(data, tiny, tmp_path):
    words = ["compare", data, "--methods", "head", "--out", tmp_path / "out", "--model", tiny]
    words += ["--set", "dtype=float32", "--set", "epochs=20"]
    command = [sys.executable, "-m", "sortal", *map(str, words)]
    process = subprocess.Popen(command, env={**os.environ, "SORTAL_DEVICE": "cpu"}, stderr=subprocess.PIPE)
    run_json = tmp_path / "out" / "runs" / "head-0" / "run.json"
    deadline = time.monotonic() + 120
    while not run_json.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    # Before its first checkpoint a run leaves nothing, afterwards what can be resumed; either way nobody writes any more.
    assert Cell("head", 0, build_config({"out": str(run_json.parent)})).status in ("waiting", "stopped")
    with FolderLock(run_json.parent):
        pass


def test_a_cell_of_a_killed_comparison_that_is_still_clearing_up_is_waited_for(data, tmp_path, monkeypatch):
    """It removes run.json before its logs: what is left in between is no run's folder."""
    ending = tmp_path / "out" / "runs" / "tfidf-0"
    (ending / "logs").mkdir(parents=True)
    lock = FolderLock(ending)
    lock.__enter__()
    waited = []

    def clear_up(seconds):
        waited.append(seconds)
        RunFolder(ending).discard()
        lock.__exit__(None, None, None)

    monkeypatch.setattr(
        "sortal.comparison.compare.time", SimpleNamespace(sleep=clear_up, monotonic=time.monotonic)
    )
    compare(str(data), methods=("tfidf",), out=tmp_path / "out", jobs=0, say=lambda line: None)
    assert waited == [0.2]
    assert RunFolder(ending).state() == "new"


def test_a_cell_that_fails_is_reported_and_the_others_go_on(data, tiny, tmp_path):
    settings = {"head.learning_rate": 1e30, "head.nan_policy": "stop"}
    found = compared(data, tiny, tmp_path / "out", seeds=1, **settings)
    status = {cell["name"]: cell for cell in found.cells}
    assert status["majority-0"]["status"] == "finished"
    assert status["head-0"]["status"] == "failed"
    assert status["head-0"]["reason"].startswith("step ")
    assert "loss nan" in status["head-0"]["reason"]
    assert found.advice == ["Only majority has finished runs: there is nothing to compare it with."]
    assert status["head-0"]["reason"] in (tmp_path / "out" / "comparison.md").read_text()


def test_a_killed_cell_is_a_failure_with_a_reason(data, tiny, tmp_path):
    (cell,) = plan({"data": str(data), "model": str(tiny), **SETTINGS}, ["head"], 1, tmp_path)
    log = tmp_path / "log"
    process = start_cell(cell, tmp_path / "settings.yaml", log)
    while not cell.folder.run_json.exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert cell.status == "stopped"


def test_cells_side_by_side_give_the_figures_of_cells_in_turn(made, data, tiny, tmp_path, monkeypatch):
    found, _ = made
    processes, beside = [], []

    def counted(*given):
        beside.append(sum(process.poll() is None for process in processes))
        processes.append(start_cell(*given))
        return processes[-1]

    monkeypatch.setattr("sortal.comparison.compare.start_cell", counted)
    together = compared(data, tiny, tmp_path / "out", jobs=2)
    assert max(beside) == 1
    assert figures(together.to_json()) == figures(found.to_json())
    assert "Up to 2 runs shared this machine" in (tmp_path / "out" / "comparison.md").read_text()
    assert compared(data, tiny, tmp_path / "out").jobs == 2, "read again, it still says so"


def test_a_blend_adds_the_models_that_are_there(data, tiny, tmp_path, monkeypatch):
    given = []

    def noted(cell, settings, log, parts):
        given.append((cell.name, {part: folder.name for part, folder in parts.items()}))
        return start_cell(cell, settings, log, parts)

    monkeypatch.setattr("sortal.comparison.compare.start_cell", noted)
    methods = ("head+tfidf", "head", "tfidf")
    found = compared(data, tiny, tmp_path / "out", methods=methods, seeds=2)
    assert {cell["status"] for cell in found.cells} == {"finished"}
    assert given[-1] == ("head+tfidf-1", {"tuned": "head-1", "tfidf": "tfidf-0"})
    assert ("head+tfidf-0", {"tuned": "head-0", "tfidf": "tfidf-0"}) in given
    words = (tmp_path / "out" / "logs" / "head+tfidf-1.log").read_text()
    assert "the linear model on words is that of" in words
    assert "C=0.3" not in words, "no candidate is fitted again"


def test_costs_of_different_devices_are_not_compared(data, tiny, tmp_path):
    out = tmp_path / "out"
    compared(data, tiny, out, seeds=1)
    run_json = out / "runs" / "head-0" / "run.json"
    record = json.loads(run_json.read_text())
    record["environment"]["device"] = "another one"
    run_json.write_text(json.dumps(record))
    assert "on different devices" in compared(data, tiny, out, seeds=1).advice[1]


def test_no_jobs_compares_what_is_finished(data, tiny, tmp_path):
    out = tmp_path / "out"
    compared(data, tiny, out, seeds=1)
    found = compared(data, tiny, out, jobs=0)
    assert [cell["status"] for cell in found.cells] == ["finished", "finished", "waiting"]
    assert [summary.runs for summary in found.methods] == [1, 1]


def test_too_few_test_rows_give_figures_and_no_verdict(tiny, tmp_path):
    data = write_csv(tmp_path / "data.csv", rows(60))
    said = []
    found = compare(
        str(data), methods=["majority", "head"], out=tmp_path / "out", say=said.append, model=str(tiny), **SETTINGS
    )  # fmt: skip
    assert found.n < 30
    assert any("too few" in line for line in said)
    assert all(summary.interval is None for summary in found.methods)
    assert all(pair.p is None and pair.winner is None for pair in found.pairs)
    assert found.advice == [f"{found.n} test rows are too few to recommend anything: give at least 30."]


def test_one_seed_says_what_it_cannot_tell(data, tiny, tmp_path):
    found = compared(data, tiny, tmp_path / "out", seeds=1)
    (pair,) = found.pairs
    assert pair.notes[0].startswith("one training run of head: how much its seed matters cannot be tested")
    assert pair.mcnemar is not None


def test_unknown_labels_in_the_test_file_and_other_folders_are_refused(data, tmp_path):
    other = write_csv(tmp_path / "test.csv", [("a text", "new label")])
    with pytest.raises(DataError, match="new label"):
        compare(str(data), methods=["head"], out=tmp_path / "out", test=str(other), say=lambda line: None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match=r"thesis\.tex"):
        compare(str(data), methods=["head"], out=tmp_path / "full", say=lambda line: None)
    with pytest.raises(ConfigError, match="f1_samples"):
        compare(str(data), methods=["head"], out=tmp_path / "x", metric="f1_samples", say=lambda line: None)


@pytest.mark.parametrize("metric", [None, "f1_macro"])
def test_several_labels_per_text_are_compared_by_the_f1_that_thresholds_are_tuned_for(tmp_path, metric):
    topics = [
        ("parcel late", "p"),
        ("money back", "m"),
        ("late parcel, money", "p|m"),
        ("hello", ""),
        ("both", "p|m"),
    ]
    lines = [(f"{text} {i}", labels) for i in range(60) for text, labels in topics]
    data = write_csv(tmp_path / "data.csv", lines)
    found = compare(
        str(data), methods=["majority", "tfidf"], out=tmp_path / "out", say=lambda line: None,
        label_delimiter="|", n_resamples=100, threads=1, metric=metric, **{"majority.threshold_metric": "f1_macro"},
    )  # fmt: skip
    compared = metric or "f1_micro"
    assert found.metric == compared
    config = RunFolder(tmp_path / "out" / "runs" / "tfidf-0").read_run_json()["config"]
    assert (config["threshold_metric"], config["metric_for_best_model"]) == (compared, compared)
    given = RunFolder(tmp_path / "out" / "runs" / "majority-0").read_run_json()["config"]
    assert given["threshold_metric"] == "f1_macro", "what is said wins"
    assert {"f1_micro", "f1_macro", "subset_accuracy"} <= set(found.methods[0].quality)
    (pair,) = found.pairs
    assert pair.winner == "tfidf"
    assert compared in found.advice[0]


@pytest.mark.parametrize("setting", ["methods=head", "seed=1", "metric=f1_macro"])
def test_what_a_flag_says_is_refused_as_a_setting(setting, data, tmp_path):
    words = ["compare", data, "--out", tmp_path / "out", "--set", setting]
    done = subprocess.run(
        [sys.executable, "-m", "sortal", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "is not a setting of a comparison's runs" in done.stderr
    assert not (tmp_path / "out").exists()
