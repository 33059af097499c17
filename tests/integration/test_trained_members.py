"""Ensembles that train their members: ``--method ensemble --members head,tfidf`` and ``--preset best``."""

from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pytest

import sortal
from baseline_runs import baseline, topics
from sortal import method_defaults
from sortal.cli.main import main
from sortal.config import build_config
from sortal.config_ensemble import MEMBERS
from sortal.errors import CheckpointError, ConfigError, Interrupted
from sortal.estimator.classifier import SortalClassifier
from sortal.methods import REGISTRY
from sortal.methods.tfidf import TfidfMethod
from sortal.run import run
from tiny_runs import fit, rows, write_csv

TEXTS = ["fine and nice", "awful, broken", "", "neither 文字"]
SHORT = {
    "dtype": "float32",
    "epochs": 1,
    "batch_size": 8,
    "max_length": 128,
    "threads": 1,
    "n_resamples": 100,
}
FLAGS = [f"{name}={value}" for name, value in SHORT.items()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("members") / "d.csv", rows(150, ("good", "bad", "odd")))


@pytest.fixture
def small_encoder(tiny_encoders, monkeypatch):
    """What an encoder is where no model is named."""
    monkeypatch.setitem(method_defaults._ENCODER, "model", str(tiny_encoders["bert"]))


def added(data, model, out, members=("head", "tfidf"), said=None, resume=False, **settings):
    values = {"data": str(data), "model": str(model), "method": "ensemble", "members": members}
    say = ([] if said is None else said).append
    config = build_config({**values, **SHORT, "out": str(out), **settings})
    return run(config, say=say, quiet=True, resume=resume)


@pytest.fixture(scope="module")
def made(data, tiny, tmp_path_factory):
    said: list[str] = []
    return added(data, tiny, tmp_path_factory.mktemp("sum") / "run", said=said), said


def test_it_is_the_sum_of_the_same_runs_made_one_by_one(made, data, tiny, tmp_path):
    defaults = {"learning_rate": 2e-3, "head_learning_rate": 2e-3}
    fit(data, tiny, tmp_path / "head", **SHORT, **defaults)
    baseline(data, tmp_path / "tfidf")
    names = [str(tmp_path / name) for name in ("head", "tfidf")]
    config = build_config(
        {"method": "ensemble", "members": names, "out": str(tmp_path / "sum"), "n_resamples": 100}
    )
    apart = run(config, say=lambda line: None, quiet=True)
    np.testing.assert_array_equal(
        made[0].classifier.predict_proba(TEXTS), apart.classifier.predict_proba(TEXTS)
    )
    assert made[0].metrics == apart.metrics


def test_rows_are_read_once_and_every_member_is_a_run_with_figures_of_its_own(made):
    result, said = made
    assert sum(line.startswith("single-label task, 3 labels") for line in said) == 1
    assert [line for line in said if line.startswith("member ")] == [
        "member 1 of 2: head",
        "member 2 of 2: tfidf",
    ]
    for method in ("head", "tfidf"):
        folder = result.folder / "members" / method
        record = json.loads((folder / "run.json").read_text())
        assert (record["status"], record["config"]["method"]) == ("finished", method)
        assert record["identity"]["data"] == result.record["identity"]["data"]
        assert json.loads((folder / "metrics.json").read_text())["n"] == result.metrics["n"]
    assert json.loads((result.folder / "members/head/run.json").read_text())["config"]["blend"] == "none"


def test_the_model_folder_needs_no_member_run(made, tmp_path):
    moved = shutil.copytree(made[0].folder / "model", tmp_path / "model")
    np.testing.assert_allclose(
        sortal.load(moved).predict_proba(TEXTS),
        made[0].classifier.predict_proba(TEXTS),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.usefixtures("small_encoder")
def test_the_best_preset_adds_head_encoder_and_words(data, tiny, tmp_path, capsys):
    out = tmp_path / "best"
    command = [
        "train",
        str(data),
        "--preset",
        "best",
        "--model",
        str(tiny),
        "--out",
        str(out),
        "--set",
        *FLAGS,
    ]
    assert main([*command, "--json"]) == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out.splitlines()[-1])
    record = json.loads((out / "run.json").read_text())
    assert [entry["method"] for entry in record["training"]["members"]] == ["head", "encoder", "tfidf"]
    bases = [
        json.loads((out / "members" / each / "run.json").read_text())["identity"]["base_model"]
        for each in ("head", "encoder", "tfidf")
    ]
    assert bases == [str(tiny), method_defaults._ENCODER["model"], None], "--model is the head's"
    table = shown.err[shown.err.index("Added up") :]
    for method in ("head", "encoder", "tfidf"):
        (line,) = [line for line in table.splitlines() if line.split()[:1] == [method]]
        own = json.loads((out / "members" / method / "metrics.json").read_text())
        assert f"{own['accuracy']:.3f}" in line
    (line,) = [line for line in table.splitlines() if line.split()[:1] == ["together"]]
    assert f"{summary['accuracy']:.3f}" in line
    assert "preset best" in (out / "model/README.md").read_text()
    assert main([*command, "--resume"]) == 0
    assert "is finished already; nothing to do" in capsys.readouterr().err


def test_stopped_in_a_member_it_goes_on_there(made, data, tiny, tmp_path, monkeypatch):
    from sortal.training.loop import Loop

    out, whole, steps = tmp_path / "run", Loop._step, []

    def stopped(loop, batch):
        steps.append(1)
        if len(steps) == 5:
            signal.raise_signal(signal.SIGINT)
        whole(loop, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", stopped)
        with pytest.raises(Interrupted):
            added(data, tiny, out)
    assert json.loads((out / "run.json").read_text())["status"] == "stopped"
    said: list[str] = []
    resumed = added(data, tiny, out, said=said, resume=True)
    assert any("resuming at step 5" in line for line in said)
    np.testing.assert_array_equal(
        resumed.classifier.predict_proba(TEXTS), made[0].classifier.predict_proba(TEXTS)
    )


def test_a_finished_member_is_not_trained_again(data, tiny, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def failed(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(TfidfMethod, "fit", failed)
        with pytest.raises(MemoryError):
            added(data, tiny, out)
    before = (out / "members/head/model/sortal.json").stat().st_mtime_ns
    with pytest.raises(CheckpointError, match=r"the run to resume is another one: .*epochs: 1 → 2"):
        added(data, tiny, out, resume=True, epochs=2)
    with pytest.raises(CheckpointError, match=r"members/head holds a run that differs: .*base model"):
        added(data, tmp_path / "other", out, resume=True)
    said: list[str] = []
    added(data, tiny, out, said=said, resume=True)
    assert any(line.endswith("members/head is finished already") for line in said)
    assert (out / "members/head/model/sortal.json").stat().st_mtime_ns == before


def test_what_fails_before_a_member_begins_leaves_nothing(data, tmp_path):
    with pytest.raises(sortal.errors.SortalError):
        added(data, tmp_path / "no_model", tmp_path / "runs" / "run")
    assert not (tmp_path / "runs").exists()


def test_several_labels_and_a_tree_of_them(tmp_path, tiny, capsys):
    several = write_csv(tmp_path / "d.csv", topics(100))
    out = tmp_path / "several"
    asked = ["--method", "ensemble", "--members", "head,tfidf", "--label-delimiter", "|", "--out", str(out)]
    sizes = [flag for flag in FLAGS if not flag.startswith("max_length")]
    assert main(["train", str(several), *asked, "--model", str(tiny), "--set", *sizes]) == 0
    assert sortal.load(out / "model").decision.thresholds is not None
    table = capsys.readouterr().err.partition("Added up")[2]
    assert "F1 micro" in table.splitlines()[2], "figures of several labels, of every member and the sum"
    assert [line.split()[0] for line in table.splitlines()[4:8] if line.split()] == [
        "head",
        "tfidf",
        "together",
    ]
    paths = write_csv(tmp_path / "t.csv", [(text, f"mood/{label}") for text, label in rows(100)])
    tree = added(paths, tiny, tmp_path / "tree", path_separator="/")
    assert tree.classifier.label_space.tree is not None
    np.testing.assert_allclose(tree.classifier.predict_proba(TEXTS).sum(1), 1, atol=1e-6)


def test_the_estimator_fits_one(tiny):
    texts, labels = zip(*rows(60), strict=True)
    sizes = {
        name: value for name, value in SHORT.items() if name not in ("epochs", "batch_size", "max_length")
    }
    made = SortalClassifier(
        "ensemble", str(tiny), epochs=1, batch_size=8, settings={"members": ["head", "tfidf"], **sizes}
    )
    assert made.fit(list(texts), list(labels)).score(list(texts), list(labels)) > 0.9


def test_a_dry_run_shows_what_each_member_reads(data, tiny, capsys):
    asked = ["--method", "ensemble", "--members", "head,tfidf", "--model", str(tiny), "--dry-run", "--json"]
    assert main(["train", str(data), *asked]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["members"]
    assert list(found) == ["head", "tfidf"]
    assert found["head"]["rows"][0]["ids"]


def test_every_method_but_itself_may_be_a_member():
    assert set(REGISTRY) - {"ensemble"} == MEMBERS


@pytest.mark.parametrize(
    ("members", "settings", "words"),
    [
        (("head", "runs/a"), {}, "members names methods and 'runs/a', which is none"),
        (("head", "head"), {}, "names something twice"),
        (("head", "tfidf"), {"blend": "tfidf"}, "leave blend out"),
        (("tfidf", "majority"), {"epochs": 2}, "epochs is a setting of none of tfidf, majority"),
        (("head", "encoder"), {"learning_rate": 1e-3}, "learning_rate is not the same for an encoder"),
        (("head", "tfidf"), {"pooling": "own"}, "member head: pooling 'own' is not for head"),
        (("head", "tfidf"), {"preset": "fast"}, "preset 'fast' is for method head"),
    ],
)
def test_members_that_do_not_fit_are_refused(members, settings, words):
    with pytest.raises(ConfigError, match=words):
        build_config({"method": "ensemble", "members": members, **settings})


def test_settings_that_do_not_fit_the_labels_are_refused_before_the_first_member(data, tiny, tmp_path):
    said: list[str] = []
    with pytest.raises(ConfigError, match="none of them"):
        added(data, tiny, tmp_path / "run", said=said, class_weight={"none of them": 2.0})
    assert not any(line.startswith("member ") for line in said)
    assert not (tmp_path / "run").exists()
