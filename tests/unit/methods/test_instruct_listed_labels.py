"""Labels listed in another order in every step, or some of them only."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from instruct_objectives import NAMES, TEXTS, assert_same, make_objective, take_step, unshared


def _listed(objective):
    """Names in the label list of the prepared step."""
    text = objective.trunks.prompt.text
    decoded = objective.trunks.prompt.tokenizer.decode(objective.shared)
    assert decoded.startswith(text.before)
    return decoded[len(text.before) :].split(text.between)[0].split("\n")


BATCH = np.array([0, 6, 7])  # labels "good" and "good enough"


def test_shuffled_labels_are_drawn_by_seed_and_step_alone(models, prompts):
    objective = make_objective(models(), prompts("label"), shuffle=True)
    again = make_objective(models(), prompts("label"), shuffle=True)
    other = make_objective(models(), prompts("label"), shuffle=True, seed=1)
    drawn, others = [], []
    for step in (0, 1, 2, 3, 0):
        objective.prepare(BATCH, step)
        drawn.append(_listed(objective))
        other.prepare(BATCH, step)
        others.append(_listed(other))
        assert objective.shared_tokens == len(objective.shared)
    again.prepare(BATCH[::-1].copy(), 3)  # as after resuming at step 3, or in another process
    assert drawn[3] == _listed(again)
    assert drawn[0] == drawn[4]
    assert len({tuple(order) for order in drawn}) == 4
    assert drawn != others
    assert all(sorted(order) == sorted(NAMES) for order in drawn)


def test_shuffling_puts_every_label_in_every_place(models, prompts):
    objective = make_objective(models(), prompts("label"), shuffle=True)
    places = set()
    for step in range(80):
        objective.prepare(BATCH, step)
        places |= set(enumerate(_listed(objective)))
    assert places == set(product(range(len(NAMES)), NAMES))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("listed", [2, 4])
def test_a_subset_of_labels_always_holds_those_of_the_steps_rows(models, prompts, shuffle, listed):
    objective = make_objective(models(), prompts("label"), shuffle=shuffle, listed=listed)
    company = set()
    for step in range(30):
        objective.prepare(BATCH, step)
        names = _listed(objective)
        assert len(names) == len(set(names)) == max(listed, 2)
        assert {"good", "good enough"} <= set(names)
        company |= set(names)
        if not shuffle:
            assert names == [name for name in NAMES if name in names], "in their usual order"
    assert company == (set(NAMES) if listed == 4 else {"good", "good enough"})


def test_more_gold_labels_than_listed_ones_are_all_listed(models, prompts):
    objective = make_objective(models(), prompts("label"), shuffle=True, listed=2)
    objective.prepare(np.arange(len(TEXTS)), 0)
    assert sorted(_listed(objective)) == sorted(NAMES)


@pytest.mark.parametrize("form", ["label", "list"])
@pytest.mark.parametrize("settings", [{"shuffle": True}, {"shuffle": True, "listed": 3}])
def test_a_prompt_drawn_for_a_step_is_shared_exactly(models, prompts, form, settings):
    model = models()
    objective = make_objective(model, prompts(form), **settings)
    with unshared(model):
        expected = take_step(objective, 10_000, step=5)
    for max_tokens in (10_000, 60, 1):
        assert_same(take_step(objective, max_tokens, step=5), expected)
    other = take_step(objective, 10_000, step=6)
    assert (other[0] - expected[0]).abs() > 1e-4, "another step has another prompt"
