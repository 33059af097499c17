"""Whole runs with method ``ensemble``, from finished members to the answers of the saved folder."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

import sortal
from baseline_runs import baseline, topics
from sortal.cli.main import main
from sortal.config import build_config
from sortal.errors import ConfigError, ModelError, RunFolderError
from sortal.evaluation.predictions import read_predictions
from sortal.methods.base import ReadsTokens
from sortal.run import run
from sortal.serving.models import ServedModel
from tiny_runs import fit, rows, write_csv

TEXTS = ["fine and nice", "awful, broken", "", "neither 文字"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("ensemble") / "d.csv", rows(150, ("good", "bad", "odd")))


@pytest.fixture(scope="module")
def members(data, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    shared = {"split_seed": 0}
    fit(data, tiny, folder / "head", **shared)
    fit(data, tiny, folder / "other", seed=1, template="eos", **shared)
    baseline(data, folder / "tfidf", **shared)
    baseline(data, folder / "majority", "majority", **shared)
    return folder


def added(members, out, names=("head", "tfidf"), said=None, **settings):
    values = {"method": "ensemble", "members": [str(members / name) for name in names], "out": str(out)}
    lines = [] if said is None else said
    return run(build_config({**values, "n_resamples": 100, **settings}), say=lines.append, quiet=True)


@pytest.fixture(scope="module")
def made(members, tmp_path_factory):
    said: list[str] = []
    return added(members, tmp_path_factory.mktemp("out") / "run", said=said), said


def test_without_data_the_rows_are_those_of_the_first_member(made, members):
    own = made[0].record["identity"]["data"]
    assert own == json.loads((members / "head" / "run.json").read_text())["identity"]["data"]


def test_the_members_add_up_to_the_whole(made, members):
    result, _ = made
    parts = [sortal.load(members / name / "model").scorer.score(TEXTS) for name in ("head", "tfidf")]
    weights = [member.weight for member in result.classifier.scorer.members]
    whole = weights[0] * parts[0] + weights[1] * parts[1]
    np.testing.assert_allclose(result.classifier.scorer.score(TEXTS), whole, rtol=1e-5, atol=1e-6)
    assert min(np.abs(w * part).max() for w, part in zip(weights, parts, strict=True)) > 0.01


def test_the_saved_folder_gives_the_same_probabilities_and_needs_no_member(made, tmp_path):
    result, _ = made
    moved = shutil.copytree(result.folder / "model", tmp_path / "model")
    loaded = sortal.load(moved)
    np.testing.assert_allclose(
        loaded.predict_proba(TEXTS), result.classifier.predict_proba(TEXTS), rtol=0, atol=1e-6
    )
    dev = read_predictions(result.folder / "dev_predictions.parquet")
    test = read_predictions(result.folder / "predictions.parquet")
    assert dev.gold is not None
    assert len(test.ids) == result.metrics["n"]


def test_a_server_answers_with_it(made):
    served = ServedModel.load("both", made[0].folder / "model")
    np.testing.assert_allclose(
        [answer.probabilities for answer in served.answer(TEXTS)],
        made[0].classifier.predict_proba(TEXTS),
        rtol=0,
        atol=1e-6,
    )


def test_batches_are_measured_in_the_tokens_of_all_members(made, members, tmp_path):
    scorer = made[0].classifier.scorer
    head = sortal.load(members / "head" / "model").scorer
    np.testing.assert_array_equal(scorer.encode(TEXTS).lengths, head.encode(TEXTS).lengths)
    np.testing.assert_array_equal(scorer.score_encoded(scorer.encode(TEXTS)), scorer.score(TEXTS))
    assert scorer.max_tokens == head.max_tokens
    twice = added(members, tmp_path / "twice", ("head", "other")).classifier.scorer
    lengths = [sortal.load(members / n / "model").scorer.encode(TEXTS).lengths for n in ("head", "other")]
    np.testing.assert_array_equal(twice.encode(TEXTS).lengths, lengths[0] + lengths[1])
    without = added(members, tmp_path / "without", ("tfidf", "majority")).classifier.scorer
    assert not isinstance(without, ReadsTokens)


def test_what_it_costs_is_what_its_members_cost(made, members):
    training = made[0].record["training"]
    records = [json.loads((members / name / "run.json").read_text()) for name in ("head", "tfidf")]
    assert training["train_seconds"] == pytest.approx(sum(r["training"]["train_seconds"] for r in records))
    assert training["trainable_parameters"] == records[0]["training"]["trainable_parameters"]
    assert (
        made[0].record["size_on_disk"]["base_model_bytes"]
        == records[0]["size_on_disk"]["base_model_bytes"]
        > 0
    )
    assert sum(entry["share"] for entry in training["members"]) == pytest.approx(1, abs=1e-3)
    assert [entry["method"] for entry in training["members"]] == ["head", "tfidf"]


def test_shares_are_said_and_the_card_names_the_members(made):
    result, said = made
    assert sum("weight 0." in line for line in said) == 2
    card = (result.folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "Method `ensemble` of head on `" in card
    assert ") and tfidf. Made by Sortal" in card
    assert "without a pretrained model" not in card


def test_who_gets_next_to_no_weight_is_left_out(members, tmp_path, monkeypatch):
    monkeypatch.setattr("sortal.methods.ensemble.best_weights", lambda *_: np.array([0.995, 0.005]))
    said: list[str] = []
    result = added(members, tmp_path / "run", ("tfidf", "majority"), said)
    assert any("majority: dev gives it no weight, so it is left out" in line for line in said)
    assert [member.folder.parent.name for member in result.classifier.scorer.members] == ["tfidf"]
    assert [entry["share"] for entry in result.record["training"]["members"]] == [1.0, 0.0]


def test_members_may_be_blends_and_ensembles(made, members, data, tiny, tmp_path):
    blend = fit(data, tiny, tmp_path / "blend", blend="tfidf", split_seed=0)
    result = added(tmp_path, tmp_path / "run", ("blend", made[0].folder))
    parts = [found.classifier.scorer.score(TEXTS) for found in (blend, made[0])]
    weights = [member.weight for member in result.classifier.scorer.members]
    assert len(weights) == 2
    whole = weights[0] * parts[0] + weights[1] * parts[1]
    moved = shutil.copytree(result.folder / "model", tmp_path / "moved")
    np.testing.assert_allclose(sortal.load(moved).scorer.score(TEXTS), whole, rtol=1e-4, atol=1e-5)


def test_a_member_with_a_shortlist_is_refused(data, members, tiny, tmp_path):
    listed = {"method": "instruct", "shortlist": 2, "max_length": None, "split_seed": 0}
    fit(data, tiny, tmp_path / "instruct", **listed)
    with pytest.raises(ModelError, match="scores some labels only"):
        added(members, tmp_path / "run", ("tfidf", tmp_path / "instruct"))


def test_several_labels(tmp_path, tiny):
    data = write_csv(tmp_path / "d.csv", topics(100))
    several = {"label_delimiter": "|", "split_seed": 0}
    fit(data, tiny, tmp_path / "head", max_length=None, **several)
    baseline(data, tmp_path / "tfidf", **several)
    result = added(tmp_path, tmp_path / "run")
    loaded = sortal.load(result.folder / "model")
    assert loaded.decision.thresholds is not None
    np.testing.assert_allclose(
        loaded.predict_proba(TEXTS), result.classifier.predict_proba(TEXTS), rtol=0, atol=1e-6
    )


def test_another_model_in_its_place_is_refused(made, members, tmp_path):
    folder = shutil.copytree(made[0].folder / "model", tmp_path / "model")
    shutil.rmtree(folder / "members" / "1")
    with pytest.raises(ModelError, match="is not a Sortal model folder"):
        sortal.load(folder)
    shutil.copytree(members / "majority" / "model", folder / "members" / "1")
    with pytest.raises(ModelError, match="not the model that this ensemble was saved with"):
        sortal.load(folder)


@pytest.mark.parametrize(
    ("names", "settings", "words"),
    [
        (("head",), {}, "two runs or more"),
        (("head", "head"), {}, "names something twice"),
        (("head", "nothing"), {}, "nothing holds no finished run"),
        (("head", "tfidf"), {"split_seed": 1}, "was trained on other rows than these"),
        (("head", "tfidf"), {"epochs": 3}, "epochs is for methods that tune"),
        (("head", "tfidf"), {"method": "tfidf"}, "members is for method ensemble"),
    ],
)
def test_members_that_do_not_fit_are_refused(names, settings, words, members, tmp_path):
    with pytest.raises((ConfigError, RunFolderError), match=words):
        added(members, tmp_path / "run", names, **settings)


def test_other_labels_are_refused(members, tmp_path):
    data = write_csv(tmp_path / "d.csv", rows(60, ("good", "bad")))
    with pytest.raises(RunFolderError, match=r"the labels of .* are others than these rows'"):
        added(members, tmp_path / "run", data=str(data))


def test_the_command_line_trains_predicts_and_says_what_it_cannot(members, tmp_path, capsys):
    out, answers = tmp_path / "run", tmp_path / "answers.csv"
    names = ",".join(str(members / name) for name in ("head", "tfidf"))
    assert main(["train", "--method", "ensemble", "--members", names, "--out", str(out)]) == 0
    texts = write_csv(tmp_path / "t.csv", [(text,) for text in TEXTS], header=("text",))
    assert main(["predict", str(out / "model"), str(texts), "--out", str(answers)]) == 0
    with answers.open(newline="", encoding="utf-8") as file:
        given = [row["label"] for row in csv.DictReader(file)]
    assert given == sortal.load(out / "model").predict(TEXTS)
    sortal.report(out)
    assert str(members / "tfidf") in (out / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["export", str(out / "model"), "--to", "onnx", "--out", str(tmp_path / "x")]) == 2
    assert "adds the scores of several models" in capsys.readouterr().err
    assert main(["predict", str(out / "model"), str(texts), "--out", str(answers), "--weights", "int8"]) == 2
    assert "this model is of method ensemble" in capsys.readouterr().err
    assert main(["train", "--method", "ensemble", "--members", names, "--dry-run"]) == 2
    assert "reads no text itself" in capsys.readouterr().err
