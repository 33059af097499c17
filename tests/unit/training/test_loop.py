"""The loop on a toy network: exact steps, the schedule, evaluation, early stopping, saving and resuming."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain, pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.packing import Pack
from sortal.config import ResolvedConfig, build_config, resolve_sizes
from sortal.errors import CheckpointError, Interrupted
from sortal.training.checkpoints import CheckpointStore
from sortal.training.distributed import Processes
from sortal.training.loop import Loop, make_optimizer
from sortal.training.losses import Loss
from sortal.training.objective import Classification
from sortal.training.progress import NoProgress
from sortal.training.schedule import factor
from sortal.training.signals import StopRequest

ALONE = Processes(0, 1, torch.device("cpu"))
LENGTHS = (3, 9, 1, 4, 4, 7, 2, 12, 5, 6, 1)  # 11 examples, 54 tokens


class Toy(nn.Module):
    """Reads the final token and the mean of each example, so that a wrong cut shows."""

    def __init__(self, labels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, 8)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.score = nn.Linear(8, labels, bias=False)

    def forward(self, rows: Pack) -> torch.Tensor:
        states = self.frozen(self.embedding(rows.input_ids[0])).tanh()
        ends = rows.cu_seqlens.tolist()
        means = torch.stack([states[a:b].mean(0) for a, b in pairwise(ends)])
        logits: torch.Tensor = self.score(means + states[rows.last])
        return logits


def texts(lengths: tuple[int, ...] = LENGTHS) -> EncodedTexts:
    rng = np.random.default_rng(0)
    flat = rng.integers(0, 20, sum(lengths)).astype(np.int32)
    return EncodedTexts(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), 0)


def targets(task: str) -> torch.Tensor:
    rng = np.random.default_rng(1)
    if task == "single":
        return torch.from_numpy(rng.integers(0, 3, len(LENGTHS)))
    return torch.from_numpy(rng.integers(0, 2, (len(LENGTHS), 3))).float()


def configured(**values: Any) -> ResolvedConfig:
    defaults = {"batch_size": 4, "epochs": 2, "early_stopping_patience": 99, "save_minutes": 1e9}
    return resolve_sizes(build_config({**defaults, **values}), len(LENGTHS))


def make(
    model: nn.Module | None = None,
    *,
    metrics: Callable[[], float] = lambda: 0.5,
    task: str = "single",
    loss: Loss | None = None,
    max_tokens: int = 1000,
    config_max_tokens: int | None = None,
    **more: Any,
) -> Loop:
    """A loop over the toy data; ``more`` goes to the loop where it knows the name, else to the config."""
    known = ("processes", "store", "stop", "view", "say", "on_log", "keep_last")
    arguments: dict[str, Any] = {
        "processes": ALONE,
        "store": None,
        "stop": StopRequest(),
        "view": NoProgress(),
        "say": lambda line: None,
    } | {key: more.pop(key) for key in known if key in more}

    def evaluate() -> dict[str, float]:
        value = metrics()
        return {"f1_macro": value, "metric": value}

    network = model or Toy()
    chosen = loss or Loss(task)  # type: ignore[arg-type]
    return Loop(
        network,
        Classification(network, texts(), targets(task), chosen, ALONE.device),
        evaluate,
        configured(max_tokens=config_max_tokens, **more),
        max_tokens=max_tokens,
        **arguments,
    )


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
    loop = make(task=loss.task, loss=loss, max_tokens=max_tokens)
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
    value, expected = gradients(make(), batch)
    parts = [gradients(make(processes=Processes(rank, world, ALONE.device)), batch) for rank in range(world)]
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
    loop = make(
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


def sequence(*values: float) -> Callable[[], float]:
    stream = iter(values)
    return lambda: next(stream)


def test_every_epoch_takes_every_example_once_in_an_order_of_its_own():
    def batches(seed: int) -> list[list[int]]:
        loop, seen = make(epochs=2, seed=seed), []

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
    progress = make(eval_per_epoch=per_epoch).run()
    assert [entry["step"] for entry in progress.history] == steps
    assert [entry["epoch"] for entry in progress.history] == [step / 3 for step in steps]


def test_it_stops_after_patience_evaluations_without_gain_and_restores_the_best_weights():
    said: list[str] = []
    seen: list[dict[str, torch.Tensor]] = []
    loop = make(
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


def test_a_dev_set_that_may_not_choose_stops_nothing_and_leaves_the_last_weights():
    loop = make(
        metrics=sequence(0.9, 0.1, 0.1, 0.1), epochs=4, keep_last=True, learning_rate=0.1,
        early_stopping_patience=1,
    )  # fmt: skip
    trained: dict[str, torch.Tensor] = {}
    evaluate = loop.evaluate

    def remembered() -> dict[str, float]:
        trained.update({name: p.detach().clone() for name, p in loop.parameters.items()})
        return evaluate()

    loop.evaluate = remembered
    progress = loop.run()
    assert progress.step == progress.best_step == 12
    for name, parameter in loop.parameters.items():
        assert torch.equal(parameter, trained[name])


def test_no_epochs_leave_the_weights_alone():
    loop = make(epochs=0, metrics=lambda: pytest.fail("nothing to evaluate"))
    progress = loop.run()
    assert progress.step == progress.tokens == 0
    for name, parameter in Toy().named_parameters():
        if parameter.requires_grad:
            assert torch.equal(loop.parameters[name], parameter)


class Watched(NoProgress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.tokens: list[int] = []
        self.stopped = 0

    def start(self, what: str, total: int, done: int = 0) -> None:
        self.started.append((total, done))

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        self.tokens.append(tokens)
        self.note = note

    def stop(self) -> None:
        self.stopped += 1


def test_progress_counts_real_tokens_of_examples_done():
    view = Watched()
    progress = make(view=view, max_tokens=5).run()
    assert view.started == [(6, 0)]
    assert sum(view.tokens) == progress.tokens == 2 * sum(LENGTHS)
    assert view.note.startswith("loss ")
    assert "dev f1_macro 0.500" in view.note
    assert view.stopped


def test_the_view_is_stopped_when_training_fails():
    view = Watched()
    loop = make(view=view, metrics=sequence())
    with pytest.raises(StopIteration):
        loop.run()
    assert view.stopped


def test_figures_go_to_the_log_at_every_evaluation():
    logged: dict[int, dict[str, float]] = {}
    make(on_log=logged.__setitem__, metrics=sequence(0.25, 0.75)).run()
    assert list(logged) == [3, 6]
    assert [figures["f1_macro"] for figures in logged.values()] == [0.25, 0.75]
    assert all(figures["train_loss"] > 0 < figures["tokens_per_second"] for figures in logged.values())


@pytest.mark.parametrize(("minutes", "steps"), [(0, [1, 2, 3, 4, 5, 6]), (1e9, [3, 6])])
def test_checkpoints_come_at_evaluations_and_when_the_minutes_are_over(tmp_path, minutes, steps):
    store = CheckpointStore(tmp_path, keep=9)
    make(store=store, save_minutes=minutes).run()
    assert [checkpoint.step for checkpoint in store.all()] == steps


def test_only_the_main_process_saves(tmp_path):
    class Second(Processes):
        def any(self, flag: bool) -> bool:
            return flag

        def sum_(self, tensors: Any) -> None:
            pass

    make(store=CheckpointStore(tmp_path), processes=Second(1, 2, ALONE.device)).run()
    assert list(tmp_path.iterdir()) == []


def stopping_at(step: int, stop: StopRequest) -> NoProgress:
    """A view during whose ``step``-th advance the user presses Ctrl-C."""

    class View(NoProgress):
        steps = 0

        def advance(self, units: int, tokens: int, note: str = "") -> None:
            self.steps += 1
            if self.steps == step:
                stop.signal_number = 2

    return View()


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_a_stopped_loop_resumes_to_the_same_end(tmp_path, at):
    whole = make(metrics=sequence(0.9, 0.1), learning_rate=0.1)
    whole.run()
    stop = StopRequest()
    loop = make(
        metrics=sequence(0.9),
        store=CheckpointStore(tmp_path),
        stop=stop,
        view=stopping_at(at, stop),
        learning_rate=0.1,
    )
    with pytest.raises(Interrupted, match=f"SIGINT after step {at} of 6") as caught:
        loop.run()
    assert caught.value.exit_code == 130
    view = Watched()
    again = make(
        metrics=sequence(0.9, 0.1) if at < 3 else sequence(0.1),
        store=CheckpointStore(tmp_path),
        view=view,
        learning_rate=0.1,
    )
    assert again.resume()
    again.run()
    assert view.started == [(6, at)]
    assert again.progress.history == whole.progress.history
    assert again.progress.best_step == 3
    for name, parameter in whole.parameters.items():
        assert torch.equal(again.parameters[name], parameter), "the best weights, of before the stop"


@pytest.mark.parametrize(
    ("asked", "again", "expected"), [(None, None, 7), (20, 20, 7), (20, 16, 16), (None, 99, 99)]
)
def test_the_token_budget_is_the_saved_one_unless_another_is_asked_for(tmp_path, asked, again, expected):
    loop = make(store=CheckpointStore(tmp_path), max_tokens=asked or 50, config_max_tokens=asked)
    loop.progress.max_tokens = 7  # after it ran out of memory
    loop.run()
    resumed = make(store=CheckpointStore(tmp_path), max_tokens=again or 60, config_max_tokens=again)
    assert resumed.resume()
    assert resumed.progress.max_tokens == expected


def test_there_is_nothing_to_resume_without_a_checkpoint(tmp_path):
    assert not make(store=CheckpointStore(tmp_path)).resume()
    assert not make().resume()


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    make(store=CheckpointStore(tmp_path)).run()
    with pytest.raises(CheckpointError, match=r"step-00000006 holds no weights that fit score\.weight"):
        make(Toy(labels=4), store=CheckpointStore(tmp_path)).resume()


# a time budget


def ticking(monkeypatch):
    """Every look at the clock takes a second, so every step takes one."""
    ticks = iter(range(10**6))
    monkeypatch.setattr("sortal.training.loop.time.monotonic", lambda: next(ticks))


def test_a_time_budget_ends_training_with_the_learning_rate_run_down(monkeypatch):
    ticking(monkeypatch)
    said: list[str] = []
    loop = make(epochs=10, max_minutes=10 / 60, warmup_ratio=0.1, say=said.append)
    rates = []
    step = loop._step
    monkeypatch.setattr(
        loop, "_step", lambda batch: (step(batch), rates.append(loop.optimizer.param_groups[0]["lr"]))
    )
    state = loop.run()
    assert state.step == len(rates) == 10
    assert state.history[-1]["step"] == 10, "the last weights are evaluated"
    assert "max_minutes 0.166667 is used up after 10 of 30 steps" in said
    expected = [loop.peaks[0] * factor(3 * k, 30, 3, "cosine") for k in range(10)]
    assert rates == pytest.approx(expected)


def test_a_budget_that_is_not_used_up_changes_nothing(monkeypatch):
    ticking(monkeypatch)
    plain, ample = make(epochs=2), make(epochs=2, max_minutes=60.0)
    assert plain.run().step == ample.run().step == 6
    for name, value in plain.parameters.items():
        assert torch.equal(value, ample.parameters[name])


def test_a_resumed_run_has_what_is_left_of_its_budget(monkeypatch, tmp_path):
    ticking(monkeypatch)
    stop = StopRequest()
    store = CheckpointStore(tmp_path, 2)
    with pytest.raises(Interrupted):
        make(epochs=10, max_minutes=10 / 60, store=store, stop=stop, view=stopping_at(4, stop)).run()
    second = make(epochs=10, max_minutes=10 / 60, store=store)
    assert second.resume()
    assert second.run().step == 10
