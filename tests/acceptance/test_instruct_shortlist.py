"""Method instruct with many labels, of which each text is asked about a few candidates: B4, B8, S2, S3, S14."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import sortal
from instruct_runs import instruct, texts_of
from sortal.errors import ModelError
from tiny_runs import edit_json, write_csv


@pytest.fixture(scope="module")
def many(bases, tmp_path_factory):
    """A run with 520 labels, five candidates for each text; some dev and test texts hold no known word."""
    folder = tmp_path_factory.mktemp("many")
    names = [f"label {i:03d}" for i in range(520)]
    train = [(f"word{i:03d} text", names[i]) for i in range(520)]
    others = [(f"word{i:03d} again", names[i]) for i in range(0, 520, 13)] + [("nothing known", names[519])]
    data = write_csv(folder / "train.csv", train)
    dev = write_csv(folder / "dev.csv", others)
    test = write_csv(folder / "test.csv", [(f"{text} here", label) for text, label in others])
    said: list[str] = []
    result = instruct(
        data,
        bases["llama"],
        folder / "run",
        said=said,
        dev=str(dev),
        test=str(test),
        shortlist=5,
        batch_size=64,
        max_length=256,
    )
    return SimpleNamespace(
        result=result, classifier=result.classifier, model=folder / "run" / "model", said=said, names=names
    )


def test_b4_520_labels_are_scored_through_five_candidates(many):
    texts = [f"word{i:03d} text" for i in range(0, 520, 40)] + ["", "nothing known", "<|end|>"]
    probabilities = many.classifier.predict_proba(texts)
    assert probabilities.shape == (len(texts), 520)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=0, atol=1e-6)
    candidates = many.classifier.scorer.shortlist.propose(texts)
    for row, own in zip(probabilities, candidates, strict=True):
        rest = np.setdiff1d(np.arange(520), own)
        assert (row[rest] == 0).all(), "exactly 0 for what was not proposed"
    assert np.isneginf(many.classifier.scorer.score(texts)).sum() == len(texts) * 515
    for i, own in zip(range(0, 520, 40), candidates, strict=False):
        assert i in own
    assert set(many.classifier.predict(texts)) <= set(many.names)


def test_the_recall_of_the_shortlist_is_said_and_kept(many):
    found = many.result.record["training"]["shortlist_recall"]
    assert found == pytest.approx(40 / 41)
    assert any("shortlist of 5: 97.6 % of the dev labels are among the candidates" in s for s in many.said)
    strict = (many.result.folder / "metrics.json").read_text(encoding="utf-8")
    json.loads(strict, parse_constant=lambda word: pytest.fail(f"{word}: a missed label has probability 0"))


def test_only_candidates_are_listed_and_the_shared_prompt_is_short(many):
    scorer = many.classifier.scorer
    trunks = scorer.trunks(["word007 text"])
    decode = scorer.prompt.tokenizer.decode
    names = [many.classifier.classes_[i] for i in trunks.candidates[0]]
    assert decode(trunks.shared) == "Classify the text into one of these labels:\n"
    assert decode(trunks[0]) == "\n".join(names) + "\n\nText: word007 text\nLabel:"
    assert many.result.record["training"]["prompt_tokens"] == len(trunks.shared) < 60


def test_s3_a_shortlisted_model_loads(many):
    texts = ["word003 x", "", "word519 word003"]
    again = sortal.load(many.model)
    np.testing.assert_allclose(
        again.predict_proba(texts), many.classifier.predict_proba(texts), rtol=0, atol=2e-5
    )


def test_s2_a_shortlisted_text_is_cut_alike_alone_and_in_company(many):
    """Candidates have names of different lengths; how much of a text is kept must not depend on its neighbours'."""
    scorer = many.classifier.scorer
    texts = ["word003 " + "long " * 100, "x", "word100 " + "also long " * 50]
    together, reversed_ = scorer.trunks(texts), scorer.trunks(texts[::-1])
    for i, text in enumerate(texts):
        alone = scorer.trunks([text])
        assert alone[0].tolist() == together[i].tolist() == reversed_[2 - i].tolist()
    assert together.texts.truncated == 2


def test_s14_lists_of_different_lengths_leave_texts_the_same_room(tiny, tmp_path):
    labels = ("a", "bb", "quite a long name for a label", "another name that is long")
    lines = [(f"{'xyzw'[i % 4] * 5}{i % 4} {'more ' * 30}{i}", labels[i % 4]) for i in range(48)]
    result = instruct(
        write_csv(tmp_path / "d.csv", lines), tiny, tmp_path / "run", shortlist=2, max_length=200
    )
    scorer = result.classifier.scorer
    texts = [text for text, _ in lines[:8]]
    trunks = scorer.trunks(texts)
    assert len({tuple(row) for row in trunks.candidates.tolist()}) > 1
    assert trunks.texts.truncated == len(texts)
    assert len(set(trunks.texts.lengths.tolist())) == 1
    for i, text in enumerate(texts):
        assert scorer.trunks([text])[0].tolist() == trunks[i].tolist()
        assert len(trunks.shared) + len(trunks[i]) + scorer.prompt.longest_answer <= 200


@pytest.mark.parametrize("form", ["each", "list"])
def test_labels_that_were_not_proposed_are_never_given(runs, form):
    run = runs(form, shortlist=2)
    texts = texts_of(form)
    probabilities, scores = run.classifier.predict_proba(texts), run.scorer.score(texts)
    candidates = run.scorer.shortlist.propose(texts)
    for row, found, own in zip(probabilities, scores, candidates, strict=True):
        (rest,) = set(range(3)) - set(own.tolist())
        assert row[rest] == 0
        assert np.isneginf(found[rest])
        assert np.isfinite(found[own]).all()
    again = sortal.load(run.model)
    np.testing.assert_allclose(again.predict_proba(texts), probabilities, rtol=0, atol=2e-5)


def test_b8_a_shortlist_of_another_run_is_refused(many, tmp_path):
    shutil.copytree(many.model, tmp_path / "model")
    edit_json(tmp_path / "model" / "shortlist.json", size=4)
    with pytest.raises(ModelError, match="shortlist"):
        sortal.load(tmp_path / "model")
    (tmp_path / "model" / "shortlist.json").unlink()
    with pytest.raises(ModelError, match="is missing"):
        sortal.load(tmp_path / "model")
