"""The prompt computed once for all rows, and the cut of a step into microbatches."""

from __future__ import annotations

from itertools import product

import pytest

from instruct_objectives import (
    CANDIDATES,
    FORMS,
    assert_same,
    make_objective,
    row_losses,
    take_step,
    unshared,
)
from tiny_runs import FAMILIES


@pytest.mark.parametrize(("family", "form"), [*product(FAMILIES, FORMS)])
def test_a_shared_prompt_gives_the_loss_and_gradients_of_whole_sequences(models, prompts, family, form):
    """Whole steps and single rows, in any order, against padded sequences of transformers' own attention."""
    model = models(family)
    objective = make_objective(model, prompts(form))
    with unshared(model):
        expected = take_step(objective, 10_000)
    for max_tokens in (10_000, 90, 1):
        assert_same(take_step(objective, max_tokens), expected)
    assert_same(take_step(objective, 90, order=[5, 2, 7, 0, 1, 6, 3, 4]), expected)


@pytest.mark.parametrize("form", FORMS)
def test_labels_listed_beside_each_text_give_the_gradients_of_whole_sequences(models, prompts, form):
    model = models()
    objective = make_objective(model, prompts(form), candidates=CANDIDATES)
    with unshared(model):
        expected = take_step(objective, 10_000)
    for max_tokens in (10_000, 120, 1):
        assert_same(take_step(objective, max_tokens), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("listed", [False, True])
def test_the_tokens_that_rows_are_counted_with_are_the_tokens_they_have(
    models, prompts, form, listed, monkeypatch
):
    """The budget of a microbatch holds: what a forward reads is the rows' lengths and the shared prompt, or less."""
    from sortal.backbone import language_model

    model, read = models(), []
    real = language_model.packed_states
    monkeypatch.setattr(
        language_model,
        "packed_states",
        lambda m, pack, *rest: read.append(pack.tokens) or real(m, pack, *rest),
    )
    objective = make_objective(model, prompts(form), candidates=CANDIDATES if listed else None)
    row_losses(objective)
    assert len(read) == 1
    counted = int(objective.lengths.sum()) + objective.shared_tokens
    # A tree of questions merges their common beginnings, more or less of them according to which are asked.
    assert counted == read[0] if form != "each" else 0.7 * counted < read[0] < 1.3 * counted
