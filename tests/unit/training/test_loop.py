"""The loop on a toy network: exact steps, the schedule, evaluation, early stopping and what is shown of it."""

from __future__ import annotations

import math
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.training.distributed import Processes
from sortal.training.loop import Loop, make_optimizer
from sortal.training.losses import Loss
from toy_loops import ALONE, LENGTHS, Toy, Watched, configured, make_loop, sequence


def gradients(loop: Loop, batch: list[int]) -> tuple[float, dict[str, torch.Tensor]]:
    value = loop._accumulate(np.array(batch))
    return value.item(), {name: p.grad.clone() for name, p in loop.parameters.items() if p.grad is not None}


LOSSES = {
    "cross-entropy": Loss("single"),
    "weighted and focal": Loss("single", gamma=2.0, class_weight=torch.tensor([0.5, 2.0, 1.0])),
    "smoothed": Loss("single", label_smoothing=0.1),
    "multi-label": Loss("multi"),
    "multi-label, weighted": Loss(
        "multi", class_weight=torch.tensor([0.5, 2.0, 1.0]), pos_weight=torch.tensor([3.0, 1.0, 0.2])
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
@settings(max_examples=20, deadline=None)
@given(max_tokens=st.integers(1, 60), batch=st.permutations(range(len(LENGTHS))), size=st.integers(1, 11))
def test_the_gradient_of_a_step_is_that_of_the_mean_loss_however_it_is_cut(loss, max_tokens, batch, size):
    batch = batch[:size]
    loop = make_loop(task=loss.task, loss=loss, max_tokens=max_tokens)
    value, found = gradients(loop, batch)
    model = Toy()
    alone = [loop.objective.texts[i].astype(np.int64) for i in batch]
    logits = torch.cat([model(one(ids)) for ids in alone])
    mean = loss(logits, loop.objective.targets[torch.tensor(batch)]).mean()
    mean.backward()
    assert value == pytest.approx(mean.item(), abs=1e-5)
    expected = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def one(ids: Any) -> Any:
    """A pack of one example."""
    ids = torch.as_tensor(ids)
    return SimpleNamespace(
        input_ids=ids[None], cu_seqlens=torch.tensor([0, len(ids)]), last=torch.tensor([len(ids) - 1])
    )


@pytest.mark.parametrize("batch", [[0, 1, 2, 3], [0, 1, 2], [5]])
@pytest.mark.parametrize("world", [2, 3])
def test_the_gradients_of_all_processes_add_up_to_the_step_also_when_some_have_no_example(batch, world):
    value, expected = gradients(make_loop(), batch)
    parts = [
        gradients(make_loop(processes=Processes(rank, world, ALONE.device)), batch) for rank in range(world)
    ]
    assert sum(part for part, _ in parts) == pytest.approx(value)
    for name, gradient in expected.items():
        assert all(name in found for _, found in parts), "every process takes part in every sum"
        total = torch.stack([found[name] for _, found in parts]).sum(0)
        torch.testing.assert_close(total, gradient, rtol=1e-5, atol=1e-7)


def rates(loop: Loop) -> list[list[float]]:
    """Learning rates of (adapters, head) at every step."""
    seen: list[list[float]] = []
    update = loop.optimizer.step

    def recorded(*arguments: Any) -> Any:
        seen.append([group["lr"] for group in loop.optimizer.param_groups])
        return update(*arguments)

    loop.optimizer.step = recorded  # type: ignore[method-assign]
    loop.run()
    return seen


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7]),
        ("cosine", [0.5, 1, *[0.5 + 0.5 * math.cos(math.pi * k / 7) for k in range(7)]]),
    ],
)
def test_the_learning_rates_rise_and_fall_each_to_its_own_peak(kind, expected):
    loop = make_loop(
        epochs=3, lr_scheduler_type=kind, warmup_ratio=0.2, learning_rate=0.01, head_learning_rate=0.1
    )
    assert rates(loop) == pytest.approx(np.array([[0.01 * f, 0.1 * f] for f in expected]))


def test_the_head_has_its_own_group_and_frozen_weights_none():
    model = Toy()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(named, configured(learning_rate=0.1, head_learning_rate=0.2))
    rest, head = optimizer.param_groups
    assert [rest["lr"], head["lr"]] == [0.1, 0.2]
    assert head["params"] == [model.score.weight]
    assert rest["params"] == [model.embedding.weight]


def test_every_epoch_takes_every_example_once_in_an_order_of_its_own():
    def batches(seed: int) -> list[list[int]]:
        loop, seen = make_loop(epochs=2, seed=seed), []

        def step(batch: Any) -> None:
            seen.append(batch.tolist())
            loop.progress.step += 1

        loop._step = step  # type: ignore[method-assign]
        loop.run()
        return seen

    first = batches(0)
    assert [len(batch) for batch in first] == [4, 4, 3] * 2
    epochs = [list(chain(*first[:3])), list(chain(*first[3:]))]
    assert [sorted(epoch) for epoch in epochs] == [list(range(11))] * 2
    assert epochs[0] != epochs[1]
    assert batches(0) == first
    assert batches(1) != first


@pytest.mark.parametrize(("per_epoch", "steps"), [(1, [3, 6]), (2, [2, 3, 5, 6]), (3, [1, 2, 3, 4, 5, 6])])
def test_dev_is_evaluated_at_the_end_of_epochs_and_at_even_distances_inside(per_epoch, steps):
    progress = make_loop(eval_per_epoch=per_epoch).run()
    assert [entry["step"] for entry in progress.history] == steps
    assert [entry["epoch"] for entry in progress.history] == [step / 3 for step in steps]


def test_it_stops_after_patience_evaluations_without_gain_and_restores_the_best_weights():
    said: list[str] = []
    seen: list[dict[str, torch.Tensor]] = []
    loop = make_loop(
        metrics=sequence(0.1, 0.6, 0.6, 0.5),
        epochs=9,
        early_stopping_patience=2,
        say=said.append,
        learning_rate=0.1,
    )
    evaluate = loop.evaluate

    def remembered() -> dict[str, float]:
        seen.append({name: p.detach().clone() for name, p in loop.parameters.items()})
        return evaluate()

    loop.evaluate = remembered
    progress = loop.run()
    assert progress.step == 12, "the third evaluation only equals the best: no gain"
    assert progress.best_step == 6
    for name, parameter in loop.parameters.items():
        assert torch.equal(parameter, seen[1][name])
        assert not torch.equal(parameter, seen[3][name])
    assert said[-1] == "no gain in 2 evaluations: stopping early, best was step 6"


@pytest.mark.parametrize(
    ("figures", "margin", "kept"),
    [
        ((0.5, 0.9, 0.8, 0.85, 0.8), 0.11, 5),
        ((0.5, 0.9, 0.8, 0.85, 0.78), 0.11, 2),
        ((0.5, 0.9, 0.9, 0.9, 0.9), 0.0, 5),
        ((0.5, 0.9, 0.9, 0.9, 0.89), 0.0, 2),
    ],
)
def test_without_patience_all_epochs_are_trained_and_the_last_weights_kept_unless_an_earlier_figure_is_far_higher(
    figures, margin, kept
):
    said: list[str] = []
    seen: list[dict[str, torch.Tensor]] = []
    loop = make_loop(
        metrics=sequence(*figures), epochs=5, margin=margin, learning_rate=0.1,
        early_stopping_patience=None, say=said.append,
    )  # fmt: skip
    evaluate = loop.evaluate

    def remembered() -> dict[str, float]:
        seen.append({name: p.detach().clone() for name, p in loop.parameters.items()})
        return evaluate()

    loop.evaluate = remembered
    progress = loop.run()
    assert (progress.step, progress.best_step) == (15, 3 * kept)
    assert progress.best_metric == figures[kept - 1]
    for name, parameter in loop.parameters.items():
        assert torch.equal(parameter, seen[kept - 1][name])
    assert any(line.startswith(f"the weights of epoch {kept} are kept") for line in said) == (kept < 5)


def test_no_epochs_leave_the_weights_alone():
    loop = make_loop(epochs=0, metrics=lambda: pytest.fail("nothing to evaluate"))
    progress = loop.run()
    assert progress.step == progress.tokens == 0
    for name, parameter in Toy().named_parameters():
        if parameter.requires_grad:
            assert torch.equal(loop.parameters[name], parameter)


def test_progress_counts_real_tokens_of_examples_done():
    view = Watched()
    progress = make_loop(view=view, max_tokens=5).run()
    assert view.started == [(6, 0)]
    assert sum(view.tokens) == progress.tokens == 2 * sum(LENGTHS)
    assert view.note.startswith("loss ")
    assert "dev f1_macro 0.500" in view.note
    assert view.stopped


def test_the_view_is_stopped_when_training_fails():
    view = Watched()
    loop = make_loop(view=view, metrics=sequence())
    with pytest.raises(StopIteration):
        loop.run()
    assert view.stopped


def test_figures_go_to_the_log_at_every_evaluation():
    logged: dict[int, dict[str, float]] = {}
    make_loop(on_log=logged.__setitem__, metrics=sequence(0.25, 0.75)).run()
    assert list(logged) == [3, 6]
    assert [figures["f1_macro"] for figures in logged.values()] == [0.25, 0.75]
    assert all(figures["train_loss"] > 0 < figures["tokens_per_second"] for figures in logged.values())
