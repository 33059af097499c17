"""Networks without Sortal in them: intercepts where a model has a place for them, pooling whatever the padding."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sortal.errors import ModelError
from sortal.exporting.hf import sequence_classifier
from sortal.exporting.networks import Network
from sortal.exporting.onnx import Answers
from tiny_runs import classifier

IDS = [[5, 9, 17, 30], [7, 8]]


def network(base, *, pooling="last", bias=True):
    model = classifier(base)
    torch.manual_seed(0)
    model.score = nn.Linear(32, 3, bias=bias)
    nn.init.normal_(model.score.bias) if bias else None
    return Network(model, pooling, 1, model.score, True)


def padded(side):
    width = max(map(len, IDS))
    ids, mask = [], []
    for row in IDS:
        fill, real = [1] * (width - len(row)), [1] * len(row)
        ids.append(fill + row if side == "left" else row + fill)
        mask.append([0] * len(fill) + real if side == "left" else real + [0] * len(fill))
    return torch.tensor(ids), torch.tensor(mask)


SUBJECT = SimpleNamespace(folder=Path("model"), space=SimpleNamespace(task="single"))


def test_an_intercept_goes_into_a_final_norm_that_has_a_bias(tiny_models):
    found = network(tiny_models["gpt2"])
    ids, mask = padded("right")
    with torch.inference_mode():
        before = found.whole(input_ids=ids, attention_mask=mask).logits
        after = sequence_classifier(found, SUBJECT)(input_ids=ids, attention_mask=mask).logits
    assert found.whole.score.bias is None
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    assert found.whole.config.problem_type == "single_label_classification"


def test_an_intercept_without_a_place_is_refused(tiny):
    with pytest.raises(ModelError, match="intercept") as caught:
        sequence_classifier(network(tiny), SUBJECT)
    assert "--keep-layers 2" in caught.value.fix


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_padding_on_either_side_changes_nothing(tiny_models, family, pooling):
    answers = Answers(network(tiny_models[family], pooling=pooling), "single")
    with torch.inference_mode():
        alone = torch.cat(
            [answers(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long))[0] for row in IDS]
        )
        for side in ("left", "right"):
            logits, probabilities = answers(*padded(side))
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(probabilities, logits.softmax(-1))


def test_the_mean_leaves_out_the_first_tokens_but_never_all(tiny):
    answers = Answers(network(tiny, pooling="mean"), "multi")
    one, mask = torch.tensor([[5]]), torch.ones(1, 1, dtype=torch.long)
    with torch.inference_mode():
        state = answers.body(input_ids=one).last_hidden_state[:, 0]
        logits, probabilities = answers(one, mask)
        torch.testing.assert_close(logits, answers.score(state), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(probabilities, logits.sigmoid())
        states = answers.body(input_ids=torch.tensor([IDS[0]])).last_hidden_state[:, 1:].mean(1)
        logits = answers(torch.tensor([IDS[0]]), torch.ones(1, 4, dtype=torch.long))[0]
        torch.testing.assert_close(logits, answers.score(states), rtol=1e-4, atol=1e-4)
