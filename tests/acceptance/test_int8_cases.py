"""``--weights int8`` where a user meets it: Python, predict, evaluate and serve."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import sortal
from served import serving
from sortal.bulk.work import Work
from sortal.cli.evaluate import evaluate
from sortal.cli.predict import predict
from sortal.errors import ConfigError, RunFolderError
from tiny_runs import rows

TEXTS = [text for text, _ in rows(24, ("good", "bad", "odd"))]
pytestmark = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU has no VNNI")


def answered(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", ["head", "head, bf16", "head, blended", "probe", "instruct, label"])
def test_probabilities_move_a_little(made, kind):
    saved, narrow = (sortal.load(made(kind), weights=weights) for weights in ("saved", "int8"))
    before, after = saved.predict_proba(TEXTS), narrow.predict_proba(TEXTS)
    assert 0 < np.abs(after - before).max() < 0.1
    alone = np.concatenate([narrow.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, after, atol=2e-2 if kind == "head, bf16" else 1e-3)


def test_predict_evaluate_serve_and_python_give_the_same(made, one_label, tmp_path):
    model = made("head")
    proba = sortal.load(model, weights="int8").predict_proba(TEXTS)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    out = tmp_path / "out.jsonl"
    predict(str(model), str(tmp_path / "texts.jsonl"), out=str(out), weights="int8")
    classes = sortal.load(model).classes_
    found = [[one["probabilities"][name] for name in classes] for one in answered(out)]
    np.testing.assert_allclose(found, proba, atol=1e-4)
    with serving({"m": model, "other": model}, weights="int8") as served:
        batch = served.service.models["m"].answer(TEXTS)
    np.testing.assert_allclose([one.probabilities for one in batch], proba, atol=1e-4)
    metrics = evaluate(str(model), str(one_label), weights="int8", out=str(tmp_path / "figures"))
    assert metrics["weights"] == "int8"
    assert "weights" not in evaluate(str(model), str(one_label), out=str(tmp_path / "plain"))


def test_a_prediction_begun_with_other_weights_is_not_continued(made, tmp_path, monkeypatch):
    """Its parts would not fit together."""
    model, texts, out = str(made("head")), tmp_path / "texts.csv", str(tmp_path / "out.csv")
    texts.write_text("text\n" + "\n".join(TEXTS))

    def full(goal, *given):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Work, "publish", full)
        with pytest.raises(OSError, match="no space"):
            predict(model, str(texts), out=out)
    with pytest.raises(RunFolderError, match="--weights: none → int8"):
        predict(model, str(texts), out=out, weights="int8")


@pytest.mark.parametrize("kind", ["tfidf", "encoder"])
def test_methods_without_a_decoder_are_refused(made, kind):
    with pytest.raises(ConfigError, match=f"this model is of method {kind}"):
        sortal.load(made(kind), weights="int8")


def test_an_unknown_name_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="'int4': no such weights"):
        predict(str(tmp_path / "nowhere"), "-", weights="int4")
