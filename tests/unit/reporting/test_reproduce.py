"""The settings that a report shows make the same runs."""

from __future__ import annotations

import json

import pytest
import yaml

from report_runs import write_run
from sortal.comparison.cells import plan
from sortal.comparison.names import plain_method
from sortal.reporting.sections.reproduce import _shared
from sortal.reporting.source import FinishedRun
from sortal.training.runfolder import RunFolder

SETTINGS = {
    "head": {"epochs": 4, "lora_r": 4, "model": "a-decoder"},
    "instruct": {"epochs": 2, "shots": 1, "model": "a-decoder"},
    "encoder": {"epochs": 4, "model": "an-encoder", "learning_rate": 1e-4},
    "tfidf": {},
    "head@short": {"epochs": 4, "lora_r": 4, "model": "a-decoder", "keep_layers": 2},
}


def runs_with(given, tmp_path):
    runs = []
    for name, own in given.items():
        folder = write_run(
            tmp_path / name, ["a", "b"], n=40, method=plain_method(name), label="intent", split_seed=0, **own
        )
        record = json.loads((folder / "run.json").read_text())
        metrics = json.loads((folder / "metrics.json").read_text())
        runs.append(FinishedRun(RunFolder(folder), name, record, metrics))
    return runs


def assert_same_runs(settings, runs, tmp_path):
    for cell in plan(settings, [run.method for run in runs], 1, tmp_path / "new"):
        (run,) = [run for run in runs if run.method == cell.method]
        assert {**cell.config.model_dump(mode="json"), "out": None} == {**run.record["config"], "out": None}


@pytest.mark.parametrize(
    "given",
    [
        {"head": {"preset": "fast", "lora_top_layers": "half"}, "head@whole": {}},
        {"head@a": {}, "head@b": {"pooling": "mean"}},
        {"head@a": {}, "head@a+tfidf": {"blend": "tfidf"}, "head": {"epochs": 2}},
        {"tfidf@as_it_is": {}},
    ],
)
def test_a_form_whose_settings_are_the_defaults_is_told_apart_all_the_same(given, tmp_path):
    runs = runs_with(given, tmp_path)
    assert_same_runs(yaml.safe_load(yaml.safe_dump(_shared(runs))), runs, tmp_path)


def test_shared_settings_are_said_once_and_the_others_under_their_method(tmp_path):
    runs = runs_with(SETTINGS, tmp_path)
    settings = yaml.safe_load(yaml.safe_dump(_shared(runs)))
    assert settings["label"] == "intent"
    assert settings["model"] == "a-decoder"
    assert settings["encoder.model"] == "an-encoder"
    assert (settings["head.epochs"], settings["instruct.epochs"], settings["encoder.epochs"]) == (4, 2, 4)
    assert "lora_r" not in settings or settings["lora_r"] == 4
    assert settings["head@short.keep_layers"] == 2
    assert_same_runs(settings, runs, tmp_path)
