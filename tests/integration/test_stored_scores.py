"""What is made of finished runs takes the scores that they have written down, and reads the texts where these do not hold them."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import sortal
from baseline_runs import baseline, topics
from sortal.config import build_config
from sortal.data.labels import LabelSpace
from sortal.evaluation.predictions import read_predictions, write_predictions
from sortal.hierarchy.tree import LabelTree
from sortal.methods import ensemble_scorer, stored_scores
from sortal.parts import read_parts
from sortal.run import run
from sortal.training.runfolder import RunFolder
from tiny_runs import fit, rows, write_csv

SEVERAL = {"label_delimiter": "|"}


@pytest.fixture(scope="module", params=["single", "multi"])
def made(request, tiny, tmp_path_factory):
    """Finished runs of a head and of tfidf, and the rows they were made of."""
    folder = tmp_path_factory.mktemp(request.param)
    several = SEVERAL if request.param == "multi" else {}
    lines = topics(100) if several else rows(150, ("good", "bad", "odd"))
    settings = {"split_seed": 0, **several}
    data = write_csv(folder / "d.csv", lines)
    head = fit(data, tiny, folder / "head", max_length=None, **settings)
    baseline(data, folder / "tfidf", **settings)
    parts = read_parts(build_config({"data": str(data), "method": "tfidf", **settings}), lambda _: None)
    return SimpleNamespace(folder=folder, head=head, parts=parts, space=parts.label_space)


def sum_of(folder, out):
    config = {"method": "ensemble", "members": [str(folder / name) for name in ("head", "tfidf")]}
    return run(build_config({**config, "out": str(out), "n_resamples": 100}), quiet=True)


@pytest.mark.parametrize("part", ["dev", "test"])
def test_they_are_what_the_saved_model_says(made, part):
    data = getattr(made.parts, part)
    told = stored_scores.stored_scores(RunFolder(made.head.folder), part, data, made.space)
    read = sortal.load(made.head.folder / "model").scorer.score(data.iter_texts())
    scores = told.scores
    if made.space.task == "single":  # up to a constant per row
        scores = scores - scores.mean(axis=1, keepdims=True)
        read = read - read.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(scores, read, rtol=1e-4, atol=1e-4)
    assert told.seconds == (made.head.record["inference"]["seconds"] if part == "test" else 0.0)


def test_a_sum_of_them_is_the_sum_of_what_is_read(made, tmp_path, monkeypatch):
    stored = sum_of(made.folder, tmp_path / "stored")
    members = [RunFolder(made.folder / name).read_run_json() for name in ("head", "tfidf")]
    seconds = [member["inference"]["seconds"] for member in members]
    assert stored.record["inference"]["seconds"] == pytest.approx(sum(seconds), abs=1e-3)
    monkeypatch.setattr("sortal.methods.ensemble.stored_scores", lambda *_: None)
    read = sum_of(made.folder, tmp_path / "read")
    ours, theirs = (
        [member["share"] for member in each.record["training"]["members"]] for each in (stored, read)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    for name in ("dev_predictions.parquet", "predictions.parquet"):
        a, b = (read_predictions(each.folder / name) for each in (stored, read))
        assert a.ids == b.ids
        np.testing.assert_allclose(a.probabilities, b.probabilities, rtol=0, atol=1e-4)


def test_a_sum_reads_no_more_than_its_texts_alone(made, tmp_path, monkeypatch):
    lengths = []
    whole = ensemble_scorer.TokenEnsembleScorer.score
    monkeypatch.setattr(
        ensemble_scorer.TokenEnsembleScorer,
        "score",
        lambda self, texts, view=None: lengths.append(len(list(texts))) or whole(self, texts, view),
    )
    sum_of(made.folder, tmp_path / "run")
    assert set(lengths) == {1}  # what a text takes by itself is measured


def test_where_the_files_do_not_hold_them_texts_are_read(made, tmp_path):
    folder = RunFolder(shutil.copytree(made.head.folder, tmp_path / "run"))
    test, dev, space = made.parts.test, made.parts.dev, made.space

    def known(part, data, space=space):
        return stored_scores.stored_scores(folder, part, data, space)

    assert known("test", test) is not None
    assert known("test", dev) is None  # other rows
    assert known("dev", test) is None
    if space.task == "multi":
        tree = LabelTree(space.names, (-1,) * len(space), ("topic",))
        assert known("test", test, LabelSpace(space.names, "multi", tree)) is None
    kept = read_predictions(folder.predictions)
    for value in (0.0,) if space.task == "single" else (0.0, 1.0):
        sure = kept.probabilities.copy()
        sure[3, 0] = value
        write_predictions(folder.predictions, kept.ids, sure, kept.predicted, space, gold=kept.gold)
        assert known("test", test) is None
    other = [*kept.ids[1:], kept.ids[0]]
    write_predictions(folder.predictions, other, kept.probabilities, kept.predicted, space, gold=kept.gold)
    assert known("test", test) is None
    folder.predictions.unlink()
    assert known("test", test) is None
    assert known("dev", dev) is not None


def test_a_blend_of_a_finished_run_reads_no_text_with_it_again(tiny, tmp_path, monkeypatch):
    data = write_csv(tmp_path / "d.csv", rows(90, ("good", "bad", "odd")))
    plain = fit(data, tiny, tmp_path / "plain", max_length=None)
    config = plain.record["config"] | {"max_tokens": None, "blend": "tfidf"}
    read = []
    scorer = type(plain.classifier.scorer)
    whole = scorer.score_encoded
    monkeypatch.setattr(
        scorer,
        "score_encoded",
        lambda self, texts, view=None: read.append(len(texts.lengths)) or whole(self, texts, view),
    )
    run(build_config(config | {"out": str(tmp_path / "blend")}), tuned=plain.folder, quiet=True)
    assert set(read) == {1}  # what a text takes by itself is measured
