"""What a server is started with: names of models, limits, missing packages."""

from __future__ import annotations

from pathlib import Path

import pytest

import sortal
from sortal.cli.main import main
from sortal.errors import ConfigError, MissingDependencyError, ModelError
from sortal.serving import settings
from sortal.serving.settings import Limits, model_folders


def test_a_model_is_called_like_its_run_its_folder_or_as_it_is_told(tmp_path):
    run = tmp_path / "shop" / "model"
    assert model_folders([str(run)]) == {"shop": run}
    assert model_folders([f"{run}/"]) == {"shop": run}
    assert model_folders([str(tmp_path / "shop")]) == {"shop": tmp_path / "shop"}
    assert model_folders([str(run)], "intents/v2") == {"intents/v2": run}
    assert model_folders([f"a={run}", f"b={run}"]) == {"a": run, "b": run}


def test_the_current_folder_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_folders(["."]) == {tmp_path.name: Path()}


def test_a_hidden_folder_is_called_by_what_follows_the_dot(tmp_path):
    folder = tmp_path / ".demo" / "model"
    folder.mkdir(parents=True)
    assert model_folders([str(folder)]) == {"demo": folder}


def test_a_folder_may_have_the_sign_in_its_name(tmp_path):
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert model_folders([str(folder)], "m") == {"m": folder}
    assert model_folders([f"m={folder}"]) == {"m": folder}


@pytest.mark.parametrize(
    ("words", "name", "sentence"),
    [
        ([], None, "no model folder"),
        (["a", "b"], "c", "--name is for one"),
        (["a=x"], "b", "--name gives another"),
        (["a=x", "a=y"], None, "two models are called a"),
        (["r/model", "s/../r/model"], None, "two models are called r"),
        (["=x"], None, "'' cannot be the name"),
        (["a b=x"], None, "'a b' cannot be the name"),
        (["x"], "a\nb", "cannot be the name"),
    ],
)
def test_names_that_cannot_be_used(words, name, sentence):
    with pytest.raises(ConfigError, match=sentence):
        model_folders(words, name)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"max_queue": 0}, "--max-queue must be at least 1, got 0"),
        ({"max_batch_tokens": -5}, "--max-batch-tokens must be at least 1"),
        ({"max_texts": 0}, "--max-texts must be"),
        ({"max_body_bytes": 0}, "--max-body-bytes must be"),
        ({"max_latency_ms": -1}, "--max-latency-ms must lie between"),
        ({"max_latency_ms": float("nan")}, "--max-latency-ms must lie between"),
    ],
)
def test_limits_that_cannot_work(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Limits(**values)


def test_a_request_holds_no_more_texts_than_the_queue():
    assert Limits(max_queue=10).texts_of_a_request == 10
    assert Limits(max_texts=5).texts_of_a_request == 5


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["nowhere"], 2, "nowhere is not a Sortal model folder"),
        (["nowhere", "--host", "0.0.0.0"], 2, "--host 0.0.0.0 can be reached from other machines"),
        (["nowhere", "--api-key-file", "none"], 2, "--api-key-file none"),
        (["nowhere", "--port", "70000"], 2, "--port must lie between"),
        (["nowhere", "--drain-seconds", "-1"], 2, "--drain-seconds must lie between"),
        (["nowhere", "--max-queue", "0"], 2, "--max-queue must be at least 1"),
        ([], 2, "missing argument"),
    ],
)
def test_a_mistake_is_a_sentence_before_anything_is_loaded(
    words, code, sentence, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *words]) == code
    said = capsys.readouterr()
    assert sentence.lower() in said.err.lower()
    assert len(said.err.splitlines()) == 2
    assert said.out == ""


def test_a_runs_folder_is_told_from_a_models(single):
    with pytest.raises(ModelError, match="is a run's folder") as error:
        sortal.serve(single.parent)
    assert str(single) in str(error.value)


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch, capsys):
    monkeypatch.setitem(settings.PACKAGES, "no_such_module", "no-such-module")
    with pytest.raises(MissingDependencyError, match="sortal serve needs no-such-module"):
        sortal.serve("anything")
    assert main(["serve", "anything"]) == 3
    assert 'pip install "sortal[serve]"' in capsys.readouterr().err
