"""Answer 'each': which labels a row is asked about, and its loss over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instruct_objectives import (
    CANDIDATES,
    MULTI,
    NAMES,
    TEXTS,
    assert_same,
    make_objective,
    row_losses,
    take_step,
    unshared,
)
from sortal.methods.instruct_rows import Branches, Trunks


def test_negatives_are_drawn_by_seed_step_and_row(models, prompts):
    everything = np.arange(len(TEXTS))

    def draws(seed, step, batch=everything):
        objective = make_objective(models(), prompts("each"), negatives=2, seed=seed)
        objective.prepare(batch, step)
        return {i: asked.tolist() for i, asked in objective.asked.items()}

    assert draws(0, 3) == draws(0, 3)
    assert draws(0, 3) != draws(0, 4)
    assert draws(0, 3) != draws(1, 3)
    some = np.array([7, 2])
    assert draws(0, 3, some) == {i: draws(0, 3)[i] for i in (2, 7)}, "whatever rows are in the step"
    assert draws(0, 3)[0] != draws(0, 3)[7] or draws(0, 4)[0] != draws(0, 4)[7], "equal rows, own draws"
    for i, asked in draws(0, 3).items():
        assert set(np.flatnonzero(MULTI[i])) <= set(asked), "every yes is asked about"
        assert len(asked) == MULTI[i].sum() + min(2, len(NAMES) - MULTI[i].sum())
        assert asked == sorted(set(asked))


def test_every_negative_is_drawn_equally_often(models, prompts):
    objective = make_objective(models(), prompts("each"), negatives=2)
    counts = np.zeros(len(NAMES))
    for step in range(600):
        objective.prepare(np.array([1]), step)
        counts[objective.asked[1]] += 1
    negative = MULTI[1] == 0
    assert (counts[~negative] == 600).all()
    assert np.abs(counts[negative] - 400).max() < 60  # 2 of 3; five standard deviations


def test_the_mean_loss_over_all_draws_is_the_loss_over_all_labels(models, prompts):
    """Enumerated, for rows with no yes, some, and nothing but yes; gradients follow, being linear in it."""
    from itertools import combinations

    full = row_losses(make_objective(models(), prompts("each"), negatives=9, pos_weight=2.0))
    objective = make_objective(models(), prompts("each"), negatives=2, pos_weight=2.0)
    for i in (1, 2, 3, 5):
        positive, negative = np.flatnonzero(MULTI[i]), np.flatnonzero(MULTI[i] == 0)
        found = []
        for drawn in combinations(negative.tolist(), min(2, len(negative))):
            objective.asked = {i: np.sort(np.concatenate([positive, np.array(drawn, np.int64)]))}
            with torch.no_grad():
                found.append(float(objective.losses(np.array([i]))[0]))
        assert np.mean(found) == pytest.approx(float(full[i]), rel=1e-5)
        assert len(found) == 1 or np.std(found) > 1e-3, "the draws do differ"


def test_few_labels_are_all_asked_about(models, prompts):
    objective = make_objective(models(), prompts("each"), negatives=6)
    objective.prepare(np.arange(len(TEXTS)), 0)
    assert all(asked.tolist() == list(range(len(NAMES))) for asked in objective.asked.values())


def test_only_candidates_are_asked_about(models, prompts):
    objective = make_objective(models(), prompts("each"), negatives=1, candidates=CANDIDATES)
    objective.prepare(np.arange(len(TEXTS)), 0)
    for i, asked in objective.asked.items():
        assert set(asked.tolist()) <= set(CANDIDATES[i].tolist())
        assert set(CANDIDATES[i][MULTI[i, CANDIDATES[i]] == 1].tolist()) <= set(asked.tolist())


@pytest.mark.parametrize("candidates", [None, CANDIDATES])
def test_a_step_with_sampled_negatives_does_not_depend_on_its_cut(models, prompts, candidates):
    model = models()
    objective = make_objective(model, prompts("each"), negatives=1, candidates=candidates)
    with unshared(model):
        expected = take_step(objective, 10_000, step=2)
    for max_tokens in (10_000, 60, 1):
        assert_same(take_step(objective, max_tokens, step=2), expected)


def test_one_label_alone_can_be_asked_about(models, prompts):
    """S8: a single wide column."""
    prompt, gold = prompts("each", NAMES[:1]), MULTI[:, :1]
    objective = make_objective(models(), prompt, gold=gold)
    assert torch.isfinite(row_losses(objective)).all()
    with unshared(models()):
        expected = take_step(objective, 10_000)
    assert_same(take_step(objective, 10_000), expected)


def test_logits_come_text_after_text_in_the_order_asked(models, prompts):
    """Each label's logit is the same whatever else is asked, and stands where it was asked."""
    prompt = prompts("each")
    branches = Branches.build(prompt, range(len(NAMES)))
    trunks = Trunks(prompt, prompt.encode(TEXTS))
    rows = [trunks[i] for i in (1, 3)]
    with torch.no_grad():
        everything = [np.arange(len(NAMES))] * 2
        whole = branches.logits(models(), trunks.shared, None, rows, everything).view(2, -1)
        some = branches.logits(models(), trunks.shared, None, rows, [np.array([4, 1]), np.array([2])])
    torch.testing.assert_close(
        some, torch.stack([whole[0, 4], whole[0, 1], whole[1, 2]]), rtol=1e-5, atol=1e-5
    )
    assert whole.std() > 1e-2
