from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sortal.backbone.encoding import TextEncoder
from sortal.backbone.longtexts import LongTexts
from sortal.backbone.template import Template
from sortal.backbone.windows import FILE, WindowScores, combined, pack_texts
from sortal.errors import ModelError

# Of the texts 0, 1 and 4: their windows among the values, and their labels.
STATES = {0: lambda v: v[:2], 1: lambda v: v[2:3], 4: lambda v: v[3:]}
GOLD = {0: 0, 1: 2, 4: 1}
OWNERS = torch.tensor([0, 0, 0, 1, 2, 2])


@pytest.fixture
def values():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float32)


@pytest.fixture(scope="module")
def texts(tiny):
    from transformers import AutoTokenizer

    encoder = TextEncoder(
        AutoTokenizer.from_pretrained(tiny),
        Template("t", (1,), (2,)),
        12,
        "head",
        long=LongTexts(windows=3, stride=4),
    )
    return encoder.encode(["a" * 15, "short", "", "b" * 11, "c" * 90])


def test_mean_and_max_are_those_of_each_texts_windows(values):
    found = {kind: combined(values, OWNERS, kind).numpy() for kind in ("mean", "max")}
    for text in range(3):
        mine = values[text == OWNERS].numpy()
        np.testing.assert_allclose(found["mean"][text], mine.mean(0), rtol=1e-6)
        np.testing.assert_array_equal(found["max"][text], mine.max(0))
    for kind, of_all in found.items():
        assert np.array_equal(of_all[1], values[3]), f"one window's {kind} is itself, to the last bit"


def test_max_of_scores_that_a_shortlist_left_out():
    scores = torch.tensor([[-torch.inf, 1.0], [-torch.inf, 2.0]])
    assert combined(scores, torch.tensor([0, 0]), "max").tolist() == [[-torch.inf, 2.0]]
    assert combined(scores, torch.tensor([0, 0]), "mean").tolist() == [[-torch.inf, 1.5]]


def test_attention_weighs_the_states_of_each_text(values, texts):
    torch.manual_seed(0)
    scores, score = WindowScores("attention", 4), torch.nn.Linear(4, 3)
    rows = pack_texts(texts, [0, 1, 4])
    assert rows.texts.tolist() == [0, 0, 1, 2, 2, 2]
    states = values.clone()
    with torch.no_grad():
        began = scores(states, rows, score)
        torch.testing.assert_close(began, combined(score(states), rows.texts, "mean"))
        scores.score.weight.normal_()
        found = scores(states, rows, score)
        for place, mine in enumerate((states[:2], states[2:3], states[3:])):
            asked = scores.score(torch.nn.functional.layer_norm(mine, (4,)))[:, 0]
            torch.testing.assert_close(found[place], score(asked.softmax(0) @ mine))
        torch.testing.assert_close(found[1], score(states[2]))  # of one window alone, its own


@pytest.mark.parametrize("aggregation", ["mean", "max", "attention"])
def test_gradients_do_not_depend_on_which_texts_are_together(aggregation, values, texts):
    torch.manual_seed(0)
    scores, score = WindowScores(aggregation, 4), torch.nn.Linear(4, 3)
    for parameter in scores.parameters():
        torch.nn.init.normal_(parameter)
    trained = [*scores.parameters(), *score.parameters()]

    def gradients(groups):
        for parameter in trained:
            parameter.grad = None
        for group in groups:
            states = torch.cat([STATES[text](values) for text in group])
            logits = scores(states, pack_texts(texts, group), score)
            gold = torch.tensor([GOLD[text] for text in group])
            torch.nn.functional.cross_entropy(logits, gold, reduction="sum").backward()
        return [parameter.grad.clone() for parameter in trained]

    whole = gradients([[0, 1, 4]])
    for groups in ([[4], [0], [1]], [[1, 4], [0]], [[4, 1, 0]]):
        for one, other in zip(whole, gradients(groups), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_texts_of_one_window_are_packed_as_texts_without_windows(texts):
    assert texts.firsts.tolist() == [0, 2, 3, 4, 6, 9]
    assert texts.lengths.tolist() == [12 + 11, 7, 2, 12 + 7, 36]
    assert texts.truncated == 1
    assert pack_texts(texts, [1, 2]).texts is None
    assert len(pack_texts(texts, [0, 3]).cu_seqlens) - 1 == 4


def test_what_attention_learned_is_saved_and_another_models_is_refused(tmp_path):
    scores = WindowScores("attention", 4)
    torch.nn.init.normal_(scores.score.weight)
    scores.save(tmp_path)
    again = WindowScores("attention", 4)
    again.load(tmp_path)
    assert torch.equal(again.score.weight, scores.score.weight)
    with pytest.raises(ModelError, match="the file belongs to another model"):
        WindowScores("attention", 5).load(tmp_path)
    save_file({"other": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(ModelError, match="the file belongs to another model"):
        WindowScores("attention", 4).load(tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(ModelError, match="is missing"):
        WindowScores("attention", 4).load(tmp_path)
    WindowScores("mean", 4).save(tmp_path)
    assert not (tmp_path / FILE).exists()
