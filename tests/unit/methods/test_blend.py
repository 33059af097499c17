from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sortal.config import build_config
from sortal.errors import ConfigError
from sortal.methods import blend as blending
from sortal.methods.base import ReadsTokens
from sortal.methods.blend import BlendScorer, best_share, settled_blend
from sortal.methods.tfidf import foreseen_work
from sortal.methods.tfidf_features import TfidfFeatures
from sortal.parts import read_parts
from tiny_runs import rows, write_csv


class Fixed:
    """Scores that are known."""

    max_tokens = 100

    def __init__(self, scores, name="x"):
        self.scores, self.name = np.asarray(scores, np.float32), name

    def encode(self, texts):
        return SimpleNamespace(lengths=np.array([len(text) for text in texts]), texts=texts)

    def score_encoded(self, encoded, view=None):
        return self.score(encoded.texts)

    def score(self, texts, view=None):
        return self.scores[: len(texts)]

    def save(self, folder: Path):
        (folder / self.name).write_text("saved")
        return {self.name: 1}


def noisy(gold, labels, seed, strength):
    """Scores that know the gold label, in noise of their own."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(len(gold), labels))
    if gold.ndim == 1:
        scores[np.arange(len(gold)), gold] += strength
        return scores
    return scores + strength * (2.0 * gold - 1)


SINGLE = np.random.default_rng(0).integers(0, 4, 2000)
MULTI = (np.random.default_rng(1).random((2000, 4)) < 0.3).astype(np.uint8)


@pytest.mark.parametrize(("gold", "task"), [(SINGLE, "single"), (MULTI, "multi")])
def test_two_that_know_alike_share_alike_and_are_better_together(gold, task):
    a, b = (noisy(gold, 4, seed, 1.0) for seed in (2, 3))
    share = best_share(a, b, gold, task)
    assert 0.45 < share < 0.55
    wrong = [
        float(((s.argmax(1) != gold) if gold.ndim == 1 else (s > 0) != gold).mean())
        for s in (a, b, (1 - share) * a + share * b)
    ]
    assert wrong[2] < min(wrong) + 1e-9
    assert wrong[2] < 0.9 * min(wrong[:2])


@pytest.mark.parametrize(("gold", "task"), [(SINGLE, "single"), (MULTI, "multi")])
def test_one_that_knows_nothing_gets_next_to_no_share(gold, task):
    known, nothing = noisy(gold, 4, 2, 3.0), noisy(gold, 4, 3, 0.0)
    assert best_share(known, nothing, gold, task) < 0.1
    assert best_share(nothing, known, gold, task) > 0.9


def test_the_share_minimises_the_loss_over_a_grid():
    a, b = noisy(SINGLE, 4, 2, 1.0), noisy(SINGLE, 4, 3, 0.4)
    share = best_share(a, b, SINGLE, "single")

    def loss(w):
        z = (1 - w) * a + w * b
        return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), SINGLE]).mean())

    grid = np.linspace(0, 1, 201)
    assert abs(share - grid[np.argmin([loss(w) for w in grid])]) < 0.01


def test_a_handful_of_dev_rows_does_not_give_all_to_one():
    """Three rows that only one of the two knows anything about."""
    gold, knows, nothing = np.array([0, 1, 2]), 2.0 * np.eye(3), np.zeros((3, 3))
    assert 0.4 < best_share(nothing, knows, gold, "single") < 0.6
    assert 0.1 < best_share(knows, nothing, gold, "single") < 0.3


def test_no_dev_rows_leave_the_tuned_model_alone():
    empty = np.zeros((0, 3))
    assert best_share(empty, empty, np.zeros(0, np.int64), "single") == 0.0


def test_scores_are_the_weighted_sum_in_fp32_also_of_a_stream(tmp_path):
    blend = BlendScorer(Fixed([[1, 2], [3, 4]], "a"), Fixed([[10, 0], [0, 10]], "b"), (0.5, 0.1))
    expected = [[1.5, 1.0], [1.5, 3.0]]
    for texts in (["x", "y"], iter(["x", "y"])):
        scores = blend.score(texts)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected)
    assert isinstance(blend, ReadsTokens)
    assert (blend.max_tokens, blend.encode(["ab", "c"]).lengths.tolist()) == (100, [2, 1])
    assert blend.save(tmp_path) == {"a": 1, "b": 1, "blend": {"tfidf": {"weights": [0.5, 0.1]}}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"method": "tfidf", "blend": "tfidf"}, "blend is for method encoder or head or instruct or probe"),
        ({"method": "instruct", "blend": "tfidf", "shortlist": 5}, "shortlist leaves most without one"),
        ({"method": "head", "blend": "majority"}, "Input should be 'auto', 'none' or 'tfidf'"),
    ],
)
def test_blends_that_cannot_be_are_refused(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        build_config(settings)


@pytest.fixture
def settings(tmp_path):
    return {"data": str(write_csv(tmp_path / "d.csv", rows(300, ("good", "bad", "odd"))))}


def settled(settings, **more):
    config, said = build_config(settings | more), []
    parts = read_parts(config, lambda line: None)
    return settled_blend(config, parts, said.append), said


def test_a_head_is_blended_where_nothing_else_is_said(settings):
    assert build_config(settings).blend == "auto"
    assert settled(settings) == ("tfidf", [])
    assert settled(settings, blend="none") == ("none", [])
    for method in ("encoder", "instruct", "probe", "tfidf"):
        assert settled(settings, method=method) == ("none", [])
    assert settled(settings, method="encoder", blend="auto") == ("tfidf", [])


def test_without_dev_rows_or_with_too_much_to_read_a_head_stays_alone_and_says_so(settings, monkeypatch):
    config, said = build_config(settings), []
    parts = read_parts(config, lambda line: None)
    assert settled_blend(config, replace(parts, dev=parts.dev.take([])), said.append) == "none"
    assert "no dev rows" in said[0]
    monkeypatch.setattr(blending, "GRID_WORK", 1000)
    found, (line,) = settled(settings)
    assert found == "none"
    assert "texts and 3 labels" in line
    assert "--blend tfidf" in line
    assert settled(settings, blend="tfidf") == ("tfidf", [])


@pytest.mark.parametrize("loss", [{"class_weight": "balanced"}, {"loss": "focal"}, {"logit_adjustment": 1.0}])
def test_a_head_whose_loss_is_another_stays_alone_and_says_so(settings, loss):
    found, (line,) = settled(settings, **loss)
    assert found == "none"
    assert f"knows nothing of {next(iter(loss))}" in line.replace("would know", "knows")


def test_what_a_linear_model_reads_is_foreseen_from_a_sample(settings):
    train = read_parts(build_config(settings), lambda line: None).train
    _, x = TfidfFeatures.fit(train.texts)
    assert foreseen_work(train, 3) == pytest.approx(3 * x.nnz, rel=0.1)
