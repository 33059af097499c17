"""What every text begins with, read once: the same states as with every text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sortal.backbone.loading import enable_packing
from sortal.backbone.packing import pack
from sortal.backbone.pooling import pool, token_states
from sortal.backbone.prefix import behind, below, can_share, read_prefix
from tiny_runs import FAMILIES, classifier, random_rows

PREFIX = [3, 9, 4, 7, 5]


def states(model, rows, pooling="last"):
    with torch.inference_mode():
        return pool(token_states(getattr(model, model.base_model_prefix), rows), rows, pooling, len(PREFIX))


def rests(texts):
    return [text[len(PREFIX) :] for text in texts]


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_whole_texts(tiny_models, family, pooling):
    """Rows longer than a block of queries, and than the window of the model that has one, included."""
    model = classifier(tiny_models[family])
    assert enable_packing(model)
    texts = [[*PREFIX, *row] for row in random_rows(1, 7, 150, 3, 80, 5)]
    prefix = read_prefix(getattr(model, model.base_model_prefix), PREFIX)
    assert prefix is not None
    found = states(model, behind(prefix, rests(texts)), pooling)
    torch.testing.assert_close(found, states(model, pack(texts), pooling), rtol=1e-4, atol=1e-5)


def test_the_prefix_is_read(tiny):
    """Another one gives other states: nothing is compared with itself above."""
    model = classifier(tiny)
    enable_packing(model)
    texts = [[*PREFIX, *row] for row in random_rows(4, 6)]
    other = read_prefix(model.model, PREFIX[::-1])
    assert (states(model, behind(other, rests(texts))) - states(model, pack(texts))).abs().max() > 1e-3


def test_a_pack_holds_and_counts_only_what_is_behind(tiny):
    model = classifier(tiny)
    enable_packing(model)
    made = behind(read_prefix(model.model, PREFIX), [np.array([8, 8], np.int32), [6]])
    assert made.input_ids.tolist() == [[8, 8, 6]]
    assert made.position_ids.tolist() == [[5, 6, 5]]
    assert made.last.tolist() == [1, 2]


def test_a_text_of_nothing_else_is_refused(tiny):
    model = classifier(tiny)
    enable_packing(model)
    with pytest.raises(ValueError, match="empty sequence"):
        behind(read_prefix(model.model, PREFIX), [[]])


def test_nothing_to_read_is_no_prefix(tiny):
    assert read_prefix(classifier(tiny).model, []) is None


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_below_a_beginning_are_those_of_whole_texts_and_so_are_gradients(tiny_models, family, pooling):
    model = classifier(tiny_models[family])
    assert enable_packing(model)
    base = getattr(model, model.base_model_prefix)
    assert can_share(base)
    texts = [[*PREFIX, *row] for row in random_rows(1, 7, 150, 3, 80, 5)]
    embedding = base.get_input_embeddings().weight.requires_grad_(True)
    seen = []
    for rows in (pack(texts), below(PREFIX, rests(texts))):
        found = pool(token_states(base, rows), rows, pooling, len(PREFIX))
        (gradient,) = torch.autograd.grad(found.square().sum(), embedding)
        seen.append((found.detach(), gradient))
    (expected, its_gradient), (found, gradient) = seen
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, its_gradient, rtol=1e-3, atol=1e-4)
    assert gradient[PREFIX].abs().sum() > 0, "the beginning learns from every text"


def test_a_pack_below_a_beginning_holds_it_once():
    made = below(PREFIX, [[8, 8], [6]])
    assert made.input_ids.tolist() == [[*PREFIX, 8, 8, 6]]
    assert made.position_ids[0, len(PREFIX) :].tolist() == [5, 6, 5]
    assert made.last.tolist() == [6, 7]


def test_a_model_that_reads_no_beginning_cannot_share_one(tiny, monkeypatch):
    """One that takes the pack for whole rows, as an attention of its own may, gives other states."""
    model = classifier(tiny)
    enable_packing(model)
    monkeypatch.setattr("sortal.backbone.prefix.below", lambda beginning, rests: pack(rests))
    assert not can_share(model.model)
