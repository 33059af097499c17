"""Whole runs with ``blend: tfidf``, from training to the answers of the saved folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sortal
from baseline_runs import topics
from sortal.config import build_config
from sortal.errors import ConfigError, ModelError, RunFolderError
from sortal.evaluation.predictions import read_predictions
from sortal.exporting.subject import read_subject
from sortal.model_folder import decision, decision_alone, read_meta
from sortal.run import run
from tiny_runs import fit, rows, write_csv

TEXTS = ["fine and nice", "awful, broken", "", "neither 文字"]


def loads_alike(result):
    """Its folder answers as the run did; returns what was loaded."""
    loaded = sortal.load(result.folder / "model")
    np.testing.assert_allclose(
        loaded.predict_proba(TEXTS), result.classifier.predict_proba(TEXTS), rtol=0, atol=1e-6
    )
    return loaded


@pytest.fixture(scope="module")
def blended(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blended")
    said: list[str] = []
    data = write_csv(folder / "d.csv", rows(120, ("good", "bad", "odd")))
    return fit(data, tiny, folder / "run", said=said, blend="tfidf"), said


def test_the_share_and_what_each_part_gives_are_said_and_recorded(blended):
    result, said = blended
    found = result.record["training"]["blend"]
    assert 0.01 < found["share"] <= 1
    assert found["f1_macro"] >= found["tuned_f1_macro"]
    line = next(line for line in said if line.startswith("blend: share of tfidf"))
    assert f"{found['tuned_f1_macro']:.4f} and {found['tfidf_f1_macro']:.4f}" in line
    assert result.record["training"]["train_seconds"] > found["tfidf"]["train_seconds"]


def test_the_saved_folder_gives_the_same_probabilities(blended):
    result, _ = blended
    loads_alike(result)
    meta = json.loads((result.folder / "model" / "sortal.json").read_text(encoding="utf-8"))
    assert set(meta["files"]) == {"adapter_model.safetensors", "tfidf.safetensors"}
    card = (result.folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "linear model on TF-IDF features, added" in card
    assert "same scores, without that step" not in card


def test_the_parts_add_up_to_the_whole(blended):
    scorer = blended[0].classifier.scorer
    a, b = scorer.weights
    whole = a * scorer.tuned.score(TEXTS) + b * scorer.tfidf.score(TEXTS)
    np.testing.assert_allclose(scorer.score(TEXTS), whole, rtol=1e-6)
    assert np.abs(b * scorer.tfidf.score(TEXTS)).max() > 0.01


@pytest.mark.parametrize("name", ["tfidf.json", "tfidf.safetensors"])
def test_a_folder_without_one_of_its_parts_is_refused(blended, tmp_path, name):
    import shutil

    folder = shutil.copytree(blended[0].folder / "model", tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        sortal.load(folder)


@pytest.mark.parametrize("method", ["head", "instruct"])
def test_several_labels_and_other_methods(tiny, tmp_path, method):
    data = write_csv(tmp_path / "d.csv", topics(80))
    settings = {"method": method, "label_delimiter": "|", "blend": "tfidf", "max_length": None}
    result = fit(data, tiny, tmp_path / "run", **settings)
    assert "blend" in loads_alike(result).meta


def test_a_linear_model_that_adds_nothing_is_left_out(tiny, tmp_path, monkeypatch):
    from sortal.methods import blend

    monkeypatch.setattr(blend, "best_share", lambda *given: 0.004)
    said: list[str] = []
    data = write_csv(tmp_path / "d.csv", rows(60))
    result = fit(data, tiny, tmp_path / "run", said=said, blend="tfidf")
    assert any("no share, so it is left out" in line for line in said)
    assert not (result.folder / "model" / "tfidf.json").exists()
    assert "blend" not in sortal.load(result.folder / "model").meta


@pytest.mark.parametrize("method", ["head", "instruct", "encoder"])
def test_the_tuned_model_of_a_finished_run_is_taken_as_it_is(
    tiny, tiny_encoders, tmp_path, method, monkeypatch
):
    data = write_csv(tmp_path / "d.csv", rows(90, ("good", "bad", "odd")))
    model = tiny_encoders["bert"] if method == "encoder" else tiny
    settings = {"method": method, "max_length": None, "loss": "focal"} if method != "instruct" else {"method": method, "max_length": None}  # fmt: skip
    plain = fit(data, model, tmp_path / "plain", **settings)
    trained = fit(data, model, tmp_path / "trained", blend="tfidf", **settings)
    monkeypatch.setattr("sortal.training.loop.Loop.run", lambda loop: pytest.fail("trained again"))
    said: list[str] = []
    config = trained.record["config"] | {"out": str(tmp_path / "taken"), "max_tokens": None}
    taken = run(build_config(config), tuned=plain.folder, say=said.append, quiet=True)
    assert any(str(plain.folder) in line for line in said)
    assert taken.record["training"]["blend"]["share"] == trained.record["training"]["blend"]["share"]
    assert taken.record["identity"] == trained.record["identity"]
    ours, theirs = (read_predictions(each.folder / "predictions.parquet") for each in (taken, trained))
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=1e-6)
    loads_alike(taken)


def test_a_tuned_model_of_another_run_is_refused(tiny, tmp_path, blended):
    data = write_csv(tmp_path / "d.csv", rows(60))
    plain = fit(data, tiny, tmp_path / "plain")
    config = blended[0].record["config"] | {"max_tokens": None}
    for tuned, words in (
        (plain.folder, "train data: .* → .*; "),
        (blended[0].folder, "blend: tfidf → none"),
        (tmp_path / "none", "no finished run"),
    ):
        with pytest.raises(RunFolderError, match=words):
            run(build_config(config | {"out": str(tmp_path / "new")}), tuned=tuned, quiet=True)
        assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="blend is none"):
        run(
            build_config(config | {"out": str(tmp_path / "new"), "blend": "none"}),
            tuned=blended[0].folder,
            quiet=True,
        )


@pytest.mark.parametrize("several", [False, True])
def test_the_linear_model_of_a_finished_run_is_taken_as_it_is(tiny, tmp_path, several, monkeypatch):
    data = write_csv(tmp_path / "d.csv", topics(120) if several else rows(90, ("good", "bad", "odd")))
    more = {"label_delimiter": "|"} if several else {}
    fitted = fit(data, tiny, tmp_path / "fitted", blend="tfidf", **more)
    words = run(build_config({"method": "tfidf", "data": str(data), "out": str(tmp_path / "words"), **more}), quiet=True)  # fmt: skip
    monkeypatch.setattr("sortal.methods.tfidf.fit_linear", lambda *given, **more: pytest.fail("fitted again"))
    said: list[str] = []
    config = fitted.record["config"] | {"out": str(tmp_path / "taken"), "max_tokens": None}
    taken = run(build_config(config), tfidf=words.folder, say=said.append, quiet=True)
    assert f"the linear model on words is that of {words.folder}" in said
    ours, theirs = (each.record["training"]["blend"] for each in (taken, fitted))
    assert ours["share"] == pytest.approx(theirs["share"], abs=1e-3)
    assert ours["tfidf"] == words.record["training"], "what it cost is what it cost there"
    assert taken.record["identity"] == fitted.record["identity"]
    a, b = (read_predictions(each.folder / "predictions.parquet") for each in (taken, fitted))
    np.testing.assert_allclose(a.probabilities, b.probabilities, rtol=0, atol=1e-3)
    loads_alike(taken)


def test_a_linear_model_of_another_run_is_refused(tiny, tmp_path, blended):
    config = blended[0].record["config"] | {"max_tokens": None, "out": str(tmp_path / "new")}
    words = {"method": "tfidf", "data": config["data"]}
    other = write_csv(tmp_path / "d.csv", rows(60))
    made = {
        name: run(build_config({**words, **more, "out": str(tmp_path / name)}), quiet=True).folder
        for name, more in {
            "data": {"data": str(other)},
            "metric": {"metric_for_best_model": "accuracy"},
        }.items()
    }
    for tfidf, complaint in (
        (made["data"], "train data: .* → .*; "),
        (made["metric"], "metric_for_best_model: accuracy → f1_macro"),
        (blended[0].folder, "holds a run of head"),
        (tmp_path / "none", "no finished run"),
    ):
        with pytest.raises(RunFolderError, match=complaint):
            run(build_config(config), tfidf=tfidf, quiet=True)
        assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="--tfidf is for a blend"):
        run(build_config(config | {"blend": "none"}), tfidf=made["metric"], quiet=True)


@pytest.mark.parametrize(("task", "several"), [("single", False), ("multi", True)])
def test_the_tuned_model_of_a_default_head_can_be_exported_with_a_decision_of_its_own(
    tiny, tmp_path, task, several
):
    """By default a head is blended; what its export answers with is what a head alone has fitted on dev."""
    data = write_csv(tmp_path / "d.csv", topics(120) if several else rows(120))
    more = {"label_delimiter": "|"} if several else {}
    default = fit(data, tiny, tmp_path / "run", blend="auto", **more)
    plain = fit(data, tiny, tmp_path / "plain", blend="none", **more)
    assert default.record["config"]["blend"] == "tfidf"
    meta, alone = (read_meta(each.folder / "model") for each in (default, plain))
    kept = meta["without_blend"]
    assert kept["decision"] == alone["decision"] != meta["decision"]
    found = default.record["training"]["blend"]
    assert kept["dev"] == {
        "metric": "f1_macro",
        "alone": found["tuned_f1_macro"],
        "blended": found["f1_macro"],
    }
    assert "without_blend" not in alone
    with pytest.raises(ModelError, match="has no place for the linear model") as refused:
        read_subject(default.folder / "model", "hf", None, int8=False, without_blend=False)
    assert f"dev f1_macro {found['tuned_f1_macro']:.4f}, with it {found['f1_macro']:.4f}" in refused.value.fix
    subject = read_subject(default.folder / "model", "hf", None, int8=False, without_blend=True)
    assert subject.decision.task == task
    assert subject.decision == decision(alone)
    del meta["without_blend"]
    assert decision_alone(meta).temperature == 1.0, "of a folder that has none of its own"
