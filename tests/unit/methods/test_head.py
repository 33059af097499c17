from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sortal.backbone.template import Template
from sortal.config import build_config
from sortal.errors import ModelError
from sortal.methods import pack_scorer
from sortal.methods.head import HeadScorer
from sortal.methods.head_model import tunable
from sortal.methods.text_folder import make_encoder
from sortal.training.distributed import Processes
from tiny_runs import HARD_TEXTS, classifier, stir


@pytest.fixture(scope="module")
def scorer(tiny):
    config = build_config({"max_length": 96})
    return HeadScorer(stir(tunable(classifier(tiny), config)), make_encoder(str(tiny), config), 150)


def test_scores_are_fp32_in_the_order_of_the_texts(scorer):
    """S2: packs are sorted by length, answers are not."""
    together = scorer.score(HARD_TEXTS)
    alone = np.concatenate([scorer.score([text]) for text in HARD_TEXTS])
    assert together.dtype == np.float32
    assert together.shape == (len(HARD_TEXTS), 3)
    assert np.abs(alone - alone[0]).max() > 0.01, "the texts have different scores"
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("max_tokens", [1, 97, 100_000])
def test_scores_do_not_depend_on_the_token_budget(scorer, max_tokens):
    other = HeadScorer(scorer.model, scorer.encoder, max_tokens)
    np.testing.assert_allclose(other.score(HARD_TEXTS), scorer.score(HARD_TEXTS), rtol=1e-5, atol=1e-5)


def test_more_texts_than_one_chunk_keep_their_order(scorer, monkeypatch):
    expected = scorer.score(HARD_TEXTS)
    monkeypatch.setattr(pack_scorer, "_CHUNK", 3)
    np.testing.assert_allclose(scorer.score(HARD_TEXTS), expected, rtol=1e-5, atol=1e-5)


def test_no_texts_give_no_rows(scorer):
    assert scorer.score([]).shape == (0, 3)


def test_the_shares_of_two_processes_add_up(scorer, monkeypatch):
    monkeypatch.setattr(Processes, "sum_", lambda self, tensors: None)
    encoded = scorer.encoder.encode(HARD_TEXTS)
    both = [replace(scorer, group=Processes(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
    parts = [each.score_encoded(encoded) for each in both]
    assert (parts[0][1::2] == 0).all()
    assert (parts[1][0::2] == 0).all()
    np.testing.assert_allclose(parts[0] + parts[1], scorer.score(HARD_TEXTS), rtol=1e-5, atol=1e-5)


def test_saving_refuses_a_tokenizer_that_lost_its_template(scorer, tmp_path, tiny):
    encoder = make_encoder(str(tiny), build_config({"max_length": 96}))
    encoder.tokenizer.backend_tokenizer.post_processor = None
    broken = HeadScorer(scorer.model, encoder, 100)
    with pytest.raises(ModelError, match="does not apply the template"):
        broken.save(tmp_path)


@pytest.mark.parametrize("truncation", ["head", "tail"])
def test_saving_refuses_a_tokenizer_that_cuts_the_other_end(scorer, tmp_path, tiny, truncation):
    encoder = make_encoder(str(tiny), build_config({"max_length": 96, "truncation": truncation}))
    encoder.tokenizer.truncation_side = "right" if truncation == "tail" else "left"
    with pytest.raises(ModelError, match="does not apply the template"):
        HeadScorer(scorer.model, encoder, 100).save(tmp_path)


def test_what_is_saved_describes_the_template_and_limits(scorer, tmp_path):
    meta = scorer.save(tmp_path)
    saved = meta["template"]
    template = Template(saved["source"], tuple(saved["prefix"]), tuple(saved["suffix"]))
    assert template == scorer.encoder.template
    assert template.hash == saved["hash"]
    assert (meta["max_length"], meta["truncation"], meta["dtype"]) == (96, "head", "float32")
    assert not (tmp_path / "README.md").exists(), "peft's own card"
    assert {p.name for p in tmp_path.iterdir()} >= {
        "config.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
