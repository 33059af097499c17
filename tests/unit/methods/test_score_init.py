from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit

from sortal.backbone import encoders, loading
from sortal.backbone.packing import pack
from sortal.config import build_config
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError
from sortal.methods import encoder as encoder_method
from sortal.methods import get_method, head
from sortal.methods.encoder import EncoderScorer
from sortal.methods.encoder import make_encoder as encoder_texts
from sortal.methods.encoder_model import EncoderModel
from sortal.methods.head import HeadScorer
from sortal.methods.head_model import tunable
from sortal.methods.score_init import begin_at_names
from sortal.methods.text_folder import make_encoder
from sortal.training.distributed import Processes
from sortal.training.progress import NoProgress
from tiny_runs import HARD_TEXTS, classifier, fit, rows, write_csv

NAMES = ("card_lost", "top up failed", "Ünïcode 文字")
TEXTS = [*HARD_TEXTS, *(f"text number {i} about something" for i in range(40))]


def begin(tiny, task="single", names=NAMES, gold=None, processes=None, **settings):
    """A fresh head with score set from ``names``: its network, encoder and the logits of TEXTS."""
    config = build_config({"max_length": 96, "dtype": "float32", **settings})
    model = tunable(classifier(tiny, labels=len(names)), config, settings.get("pooling", "last"))
    encoder = make_encoder(str(tiny), config)
    context = SimpleNamespace(
        label_space=LabelSpace(names, task),
        config=config,
        view=NoProgress(),
        processes=processes or Processes(0, 1, torch.device("cpu")),
    )
    train = encoder.encode(TEXTS)
    gold = np.zeros(len(TEXTS), np.int64) if gold is None else gold
    before = model.trained_score.weight.detach().clone()
    begin_at_names(model, model.trained_score, encoder, train, gold, context, 300)
    return HeadScorer(model, encoder, 300), before


def test_a_label_begins_at_what_a_file_says_it_means(tiny, tmp_path):
    """Codes say nothing; their titles do."""
    codes = ("A01", "B02", "C03")
    titles = tmp_path / "titles.json"
    words = [name.replace("_", " ") for name in NAMES]
    titles.write_text(json.dumps(dict(zip(codes, words, strict=True))), encoding="utf-8")
    named = begin(tiny)[0].model.trained_score.weight
    coded = begin(tiny, names=codes)[0].model.trained_score.weight
    told = begin(tiny, names=codes, verbalizer=str(titles))[0].model.trained_score.weight
    assert torch.equal(told, named)
    assert not torch.equal(coded, named)


@pytest.mark.parametrize("method", ["head", "encoder"])
def test_labels_without_a_row_are_refused_before_a_model_is_fetched(method, tmp_path):
    path = tmp_path / "titles.json"
    path.write_text('{"A01": "farming"}', encoding="utf-8")
    config = build_config({"method": method, "verbalizer": str(path)})
    with pytest.raises(ConfigError, match="has no row for 1 labels of the data, 'B02' first"):
        get_method(method).check(config, None, LabelSpace(("A01", "B02"), "single"))


def states_of(scorer, texts):
    rows = pack([ids.tolist() for ids in scorer.encoder.encode(texts)])
    with torch.inference_mode():
        return scorer.model.states(rows).numpy()


def test_a_label_scores_its_own_name_above_the_mean_of_all_names(tiny):
    """By the square of how far the name lies from that mean, all at one scale."""
    scorer, _ = begin(tiny)
    words = ["card lost", "top up failed", "Ünïcode 文字"]
    scores = scorer.score(words)
    above = scores.diagonal() - scores.mean(0)
    states = states_of(scorer, words)
    square = ((states - states.mean(0)) ** 2).sum(1)
    assert (above > 0).all()
    np.testing.assert_allclose(above / above.sum(), square / square.sum(), rtol=0.05)


def test_the_first_logits_are_centred_and_small(tiny):
    """A loss at its first step: about that of a guess."""
    scores = begin(tiny)[0].score(TEXTS)
    assert np.abs(scores.mean(0)).max() < 0.05
    assert 0.4 < (scores - scores.mean(0)).std() < 0.6


def test_with_several_labels_the_first_probabilities_are_how_frequent_they_are(tiny):
    gold = np.zeros((len(TEXTS), 3), np.uint8)
    gold[:12, 0], gold[:2, 1] = 1, 1
    scores = begin(tiny, "multi", gold=gold)[0].score(TEXTS)
    expected = np.array([12, 2, 0.5]) / len(TEXTS)
    np.testing.assert_allclose(expit(scores.mean(0)), expected, rtol=0.1)


@pytest.mark.parametrize("names", [("one",), ("a_b", "a b")])
def test_names_that_say_nothing_leave_score_as_it_was(tiny, names):
    scorer, before = begin(tiny, "multi", names, np.zeros((len(TEXTS), len(names)), np.uint8))
    assert torch.equal(scorer.model.trained_score.weight, before)


def test_score_stays_trainable_and_fp32(tiny):
    weight = begin(tiny)[0].model.trained_score.weight
    assert weight.requires_grad
    assert weight.dtype == torch.float32
    assert not weight.is_inference()


def test_another_process_takes_the_sum_that_the_main_one_gives(tiny, monkeypatch):
    sent = []
    monkeypatch.setattr(Processes, "sum_", lambda self, tensors: sent.extend(t.clone() for t in tensors))
    monkeypatch.setattr(Processes, "any", lambda self, flag: flag)
    begin(tiny, processes=Processes(1, 2, torch.device("cpu")))
    assert len(sent) == 2, "weight and offset"
    assert not any(tensor.any() for tensor in sent)


@pytest.mark.parametrize("setting", ["labels", "random"])
def test_a_run_begins_as_the_setting_says(tiny, tmp_path, setting, monkeypatch):
    called = []
    monkeypatch.setattr(head, "begin_at_names", lambda *given: called.append(given))
    data = write_csv(tmp_path / "d.csv", rows())
    fit(data, tiny, tmp_path / "run", score_init=setting)
    assert len(called) == (setting == "labels")


def begin_encoder(base, task="single", gold=None):
    """The same for an encoder read at the mean, whose linear layer has a bias."""
    config = build_config({"method": "encoder", "max_length": 96, "dtype": "float32"})
    settings = loading.load_config(str(base))
    settings.num_labels = len(NAMES)
    body = encoders.load_body(str(base), settings)
    model = EncoderModel(body, len(NAMES), settings.pad_token_id, own=False, dtype=torch.float32)
    encoder = encoder_texts(str(base), config)
    train = encoder.encode(TEXTS)
    gold = np.zeros(len(TEXTS), np.int64) if gold is None else gold
    context = SimpleNamespace(
        label_space=LabelSpace(NAMES, task),
        config=config,
        view=NoProgress(),
        processes=Processes(0, 1, torch.device("cpu")),
    )
    begin_at_names(model, model.score, encoder, train, gold, context, 300)
    return EncoderScorer(model, encoder, 300).score(TEXTS)


def test_an_encoder_read_at_the_mean_begins_there_too(tiny_encoders):
    scores = begin_encoder(tiny_encoders["sentence"])
    assert np.abs(scores.mean(0)).max() < 0.1
    assert 0.4 < (scores - scores.mean(0)).std() < 0.6
    gold = np.zeros((len(TEXTS), 3), np.uint8)
    gold[:12, 0], gold[:2, 1] = 1, 1
    scores = begin_encoder(tiny_encoders["sentence"], "multi", gold)
    np.testing.assert_allclose(expit(scores.mean(0)), np.array([12, 2, 0.5]) / len(TEXTS), rtol=0.2)


@pytest.mark.parametrize(("pooling", "calls"), [("mean", 1), ("own", 0)])
def test_a_head_of_the_familys_own_begins_as_transformers_makes_it(
    tiny_encoders, tmp_path, pooling, calls, monkeypatch
):
    called = []
    monkeypatch.setattr(encoder_method, "begin_at_names", lambda *given: called.append(given))
    data = write_csv(tmp_path / "d.csv", rows())
    fit(data, tiny_encoders["distilbert"], tmp_path / "run", method="encoder", pooling=pooling)
    assert len(called) == calls
