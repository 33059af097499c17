"""What a template puts before every text, read once for many: the same scores, losses and gradients as with each of them."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sortal.backbone.packing import pack
from sortal.backbone.prefix import below
from sortal.config import build_config
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError
from sortal.methods.head import HeadScorer
from sortal.methods.head_model import tunable
from sortal.methods.rehearsal import Network
from sortal.methods.text_folder import LONG_LENGTH, MAX_LENGTH, SHARED, make_encoder, sharing
from sortal.training.held_bytes import HeldBytes
from sortal.training.losses import make_loss
from sortal.training.objective import Classification
from sortal.training.step_memory import Shape
from tiny_runs import HARD_TEXTS, classifier, edit_json, stir

NAMES = ("a_first", "another", "the_third")
LONG = "abcdefghi " * 40  # 400 tokens of the tiny models, which read bytes
CPU = torch.device("cpu")


def space(names=NAMES):
    return LabelSpace(tuple(names), "single")


def encoders(tiny, **settings):
    config = build_config({"template": "labels", "max_length": 150, **settings})
    whole = make_encoder(str(tiny), config, None, space())
    return config, whole, sharing(whole)


@pytest.mark.parametrize(
    "settings",
    [{}, {"pooling": "mean"}, {"windows": 3, "stride": 4}, {"windows": 3, "stride": 4, "aggregation": "max"}],
)
def test_scores_are_those_of_whole_texts_while_it_learns_and_after(tiny, settings):
    """150 tokens, of which the template takes 86: HARD_TEXTS has texts that are cut."""
    config, whole, shared = encoders(tiny, **settings)
    assert shared.shared
    model = stir(
        tunable(
            classifier(tiny),
            config,
            config.pooling if config.pooling != "auto" else "last",
            len(whole.template.prefix),
        )
    )
    expected = HeadScorer(model, whole, 400).score(HARD_TEXTS)
    assert np.ptp(expected, axis=0).max() > 0.01, "the texts have different scores"
    scorer = HeadScorer(model, shared, 400)
    np.testing.assert_allclose(scorer.score(HARD_TEXTS), expected, rtol=1e-4, atol=1e-5)
    learning = scorer.encode(HARD_TEXTS)
    scorer.settle()
    np.testing.assert_allclose(scorer.score(HARD_TEXTS), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scorer.score_encoded(learning), expected, rtol=1e-4, atol=1e-4)


def test_the_texts_are_counted_without_it(tiny):
    _, whole, shared = encoders(tiny)
    long, short = whole.encode(HARD_TEXTS), shared.encode(HARD_TEXTS)
    assert short.beginning == whole.template.prefix
    assert (long.lengths - short.lengths == len(whole.template.prefix)).all()
    assert short.truncated == long.truncated > 0
    assert short.tokens == long.tokens - len(HARD_TEXTS) * len(short.beginning)


@pytest.mark.parametrize("task", ["single", "multi"])
def test_losses_and_gradients_are_those_of_whole_texts(tiny, task):
    config, *both = encoders(tiny)
    gold = np.arange(len(HARD_TEXTS)) % 3
    gold = gold if task == "single" else (gold[:, None] == np.arange(3)).astype(np.int64)
    rows = np.array([3, 0, 5, 1])
    seen = []
    for encoder in both:
        model = stir(tunable(classifier(tiny), config))
        loss = make_loss(config, task, NAMES, gold)
        objective = Classification(model, encoder.encode(HARD_TEXTS), gold, loss, CPU)
        assert objective.shared_tokens == (len(encoder.template.prefix) if encoder.shared else 0)
        losses = objective.losses(rows)
        losses.sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        seen.append((losses.detach(), gradients))
    (expected, gradients), (losses, found) = seen
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    assert found.keys() == gradients.keys()
    assert any("lora_A" in name for name in found)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=2e-3, atol=1e-5, msg=name)


def test_a_short_beginning_is_read_with_every_text(tiny):
    plain = make_encoder(str(tiny), build_config({}))
    assert len(plain.template.prefix) < SHARED
    assert not sharing(plain).shared


def test_a_template_that_ends_with_the_text_shares_nothing(tiny):
    """An empty text would leave nothing below it."""
    encoder = make_encoder(str(tiny), build_config({"template": "x" * 80 + "{text}"}))
    assert not sharing(encoder).shared


def test_a_text_gets_as_many_tokens_as_without_the_labels(tiny, tmp_path):
    roomy = shutil.copytree(tiny, tmp_path / "roomy")
    edit_json(roomy / "config.json", max_position_embeddings=1000)
    names = len("a first, another, the third")

    def length(template, *texts, **settings):
        config = build_config({"template": template, **settings})
        return make_encoder(str(roomy), config, Dataset.from_lists(texts), space()).max_length

    assert length("summary", LONG, "short") == MAX_LENGTH
    assert length("labels", LONG, "short") == MAX_LENGTH + names
    assert length("labels", LONG) == LONG_LENGTH + names
    assert length("labels", LONG, max_length=100) == 100, "what is said counts everything"


def test_a_wording_is_what_is_listed(tiny, tmp_path):
    (tmp_path / "words.csv").write_text("label,wording\na_first,one\nanother,two\nthe_third,three\n")
    config = build_config(
        {"template": "{labels}? {text} is", "verbalizer": str(tmp_path / "words.csv"), "score_init": "random"}
    )
    encoder = make_encoder(str(tiny), config, None, space())
    assert encoder.tokenizer.decode(encoder.template.prefix) == "one, two, three? "


def test_more_labels_than_the_model_has_positions_for_are_refused(tiny, tmp_path):
    small = shutil.copytree(tiny, tmp_path / "small")
    edit_json(small / "config.json", max_position_embeddings=300)
    many = space([f"label number {i}" for i in range(20)])
    with pytest.raises(
        ConfigError, match=r"lists 20 labels in \d+ tokens; .* more than the 300 the model reads"
    ):
        make_encoder(str(small), build_config({"template": "labels"}), None, many)


def test_the_memory_of_a_step_is_that_of_the_real_network(tiny):
    """At another size than those it was rehearsed at."""
    config = build_config({})
    model = tunable(classifier(tiny), config)
    network = replace(Network("head", model.inner.config, config, torch.float32, CPU), prompted=True)
    batch = below([5] * 90, [[5] * 48] * 30)
    model(batch).sum().backward()
    held = HeldBytes()
    with held:
        model(batch).logsumexp(-1).sum().backward()
    found = network.step(checkpointing=False).at(Shape(30, 48, 90))
    assert found == pytest.approx(held.peak, rel=0.05)
    whole = HeldBytes()
    with whole:
        model(pack([[5] * 138] * 30)).logsumexp(-1).sum().backward()
    assert whole.peak > 1.5 * held.peak
