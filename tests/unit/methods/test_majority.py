from __future__ import annotations

import json

import numpy as np
import pytest

from sortal.data.labels import LabelSpace
from sortal.errors import ModelError
from sortal.methods.majority import MajorityMethod, MajorityScorer

SINGLE, MULTI = LabelSpace(("b", "a", "c"), "single"), LabelSpace(("b", "a", "c"), "multi")
COUNTS = np.array([1, 3, 0])


def test_single_label_scores_are_log_frequencies_whatever_the_text():
    scores = MajorityScorer(SINGLE, COUNTS, 4).score(text for text in ("x", ""))
    assert scores.dtype == np.float32
    assert np.exp(scores) == pytest.approx(np.array([[0.25, 0.75, 0.125]] * 2))


def test_multi_label_scores_are_log_odds():
    scores = MajorityScorer(MULTI, COUNTS, 4).score(["x"])
    assert scores[0] == pytest.approx(np.log([1 / 3, 3, 1 / 7]), rel=1e-6)


def test_no_texts_give_no_rows():
    assert MajorityScorer(SINGLE, COUNTS, 4).score([]).shape == (0, 3)


def test_it_is_read_back_exactly_and_only_whole(tmp_path):
    scorer = MajorityScorer(SINGLE, COUNTS, 4)
    meta = json.loads(json.dumps(scorer.save(tmp_path)))
    again = MajorityMethod().load(tmp_path, meta, SINGLE)
    assert (again.score(["x"]) == scorer.score(["x"])).all()
    with pytest.raises(ModelError, match="disagree about the labels"):
        MajorityMethod().load(tmp_path, meta, LabelSpace(("a", "b", "c"), "single"))
    file = tmp_path / "majority.json"
    file.write_text(file.read_text().replace("3", "4"))
    with pytest.raises(ModelError, match="not the file this model was saved with"):
        MajorityMethod().load(tmp_path, meta, SINGLE)
    file.unlink()
    with pytest.raises(ModelError, match="is missing"):
        MajorityMethod().load(tmp_path, meta, SINGLE)
