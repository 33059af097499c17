"""What a row of method instruct costs, against plain transformers; and weights of rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from instruct_objectives import (
    CANDIDATES,
    MULTI,
    NAMES,
    SINGLE,
    TEXTS,
    assert_same,
    make_objective,
    row_losses,
    take_step,
    unshared,
)
from sortal.config import build_config, resolve_sizes
from sortal.data.labels import LabelSpace
from sortal.methods.instruct import InstructMethod
from sortal.methods.instruct_rows import Trunks
from sortal.prompting.shots import Shot


def _logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([[int(i) for i in ids]]), use_cache=False).logits[0].double()


def _sequence(prompt, text, candidates=None):
    """The ids before an answer, from one string."""
    names = NAMES if candidates is None else [NAMES[i] for i in candidates]
    before = prompt.text.before
    if prompt.text.lists_labels:
        before += "\n".join(names) + prompt.text.between
    whole = before + prompt.text.query + text + prompt.text.after
    return prompt.tokenizer(whole, split_special_tokens=True)["input_ids"]


def _ids(prompt, text):
    return prompt.tokenizer(text, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("candidates", [None, CANDIDATES])
@pytest.mark.parametrize("form", ["label", "list"])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_the_loss_is_minus_log_p_of_the_answer_in_a_plain_forward(
    models, plain, prompts, family, form, candidates
):
    """Instruction, labels, text, cue, answer and end as one string, read by plain transformers and peft."""
    model, prompt = models(family), prompts(form)
    found = row_losses(make_objective(model, prompt, candidates=candidates))
    bare = plain(family, model)
    for i, text in enumerate(TEXTS):
        before = _sequence(prompt, text, None if candidates is None else candidates[i])
        names = [NAMES[SINGLE[i]]]
        if form == "list":
            names = [NAMES[j] for j in np.flatnonzero(MULTI[i])]
        words = "".join((" " if number == 0 else ", ") + name for number, name in enumerate(names))
        answer = [*_ids(prompt, words), prompt.tokenizer.eos_token_id]
        logprobs = _logits(bare, [*before, *answer[:-1]]).log_softmax(-1)[len(before) - 1 :]
        expected = -sum(float(logprobs[k, token]) for k, token in enumerate(answer))
        assert float(found[i]) == pytest.approx(expected, rel=1e-5), text


@pytest.mark.parametrize("candidates", [None, CANDIDATES])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pos_weight": 3.0, "loss": "focal", "class_weight": {"a": 2.0}},
        {"loss": "asymmetric"},
        {"logit_adjustment": 1.0, "negative_smoothing": 0.05},
    ],
)
def test_every_label_is_a_yes_or_no_in_a_plain_forward(models, plain, prompts, candidates, settings):
    model, prompt = models(), prompts("each")
    objective = make_objective(model, prompt, candidates=candidates, **settings)
    found = row_losses(objective)
    bare, loss = plain("llama", model), objective.loss
    yes, no = prompt.yes_no
    assert prompt.tokenizer.decode([yes]) + prompt.tokenizer.decode([no]) == "yn"
    for i, text in enumerate(TEXTS):
        asked = range(len(NAMES)) if candidates is None else candidates[i].tolist()
        logits = torch.zeros(1, len(NAMES))
        for j in asked:
            ids = [*_sequence(prompt, text, candidates[i] if candidates is not None else None)]
            last = _logits(bare, [*ids, *_ids(prompt, f"\n{NAMES[j]}:")])[-1]
            logits[0, j] = last[yes] - last[no]
        each = loss.per_label(logits, torch.from_numpy(MULTI[i : i + 1]).float())[0]
        assert float(found[i]) == pytest.approx(float(each[list(asked)].mean()), rel=1e-5), text
    if not settings and candidates is None:
        assert float(each.mean()) == pytest.approx(
            float(F.binary_cross_entropy_with_logits(logits, torch.from_numpy(MULTI[-1:]).float())), rel=1e-6
        )


def test_examples_in_the_prompt_are_read_and_not_predicted(models, prompts):
    """The loss of a row under shots is that of its own answer below a longer prompt."""
    model = models()
    shown = prompts("label", shots=(Shot("a text", (2,)), Shot("another", (3,))))
    objective = make_objective(model, shown)
    with unshared(model):
        expected = take_step(objective, 10_000)
    assert_same(take_step(objective, 10_000), expected)
    bare, with_shots = row_losses(make_objective(model, prompts("label"))), row_losses(objective)
    assert len(with_shots) == len(bare) == len(TEXTS)
    assert (with_shots - bare).abs().min() > 1e-4
    assert objective.lengths.tolist() == make_objective(model, prompts("label")).lengths.tolist()


def test_a_row_without_labels_is_an_answer_too(models, prompts):
    """Its mask is never empty: the end is predicted right after the cue."""
    objective = make_objective(models(), prompts("list"))
    (row,) = (i for i in range(len(TEXTS)) if not MULTI[i].any())
    assert objective.responses[row].tolist() == [objective.trunks.prompt.terminator]
    assert float(row_losses(objective)[row]) > 0


# weights


def test_row_weights_scale_the_loss_of_their_rows(models, prompts):
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0])
    plain = row_losses(make_objective(models(), prompts("label")))
    found = row_losses(make_objective(models(), prompts("label"), weights=weights))
    torch.testing.assert_close(found, plain * weights)


def test_class_weights_of_a_run_become_row_weights_with_a_mean_of_one(models, prompts):
    """S11: scaled over the whole training set, so that a step may be cut anywhere."""
    space = LabelSpace(NAMES, "single")
    trunks = Trunks(prompts("label"), prompts("label").encode(TEXTS))

    def losses(**settings):
        config = resolve_sizes(build_config({"method": "instruct", **settings}), len(TEXTS))
        objective = InstructMethod()._objective(config, space, models(), trunks, SINGLE)
        return objective, row_losses(objective)

    balanced, found = losses(class_weight="balanced")
    _, plain = losses()
    counts = np.bincount(SINGLE)
    expected = (1 / counts)[SINGLE] / (1 / counts)[SINGLE].mean()
    torch.testing.assert_close(found / plain, torch.tensor(expected, dtype=torch.float32))
    assert_same(take_step(balanced, 1), take_step(balanced, 10_000))
