"""The loop under a time budget: where it ends, with which learning rates, and after resuming."""

from __future__ import annotations

import pytest
import torch

from sortal.errors import Interrupted
from sortal.training.checkpoints import CheckpointStore
from sortal.training.schedule import factor
from sortal.training.signals import StopRequest
from toy_loops import make_loop, stopping_at


def ticking(monkeypatch):
    """Every look at the clock takes a second, so every step takes one."""
    ticks = iter(range(10**6))
    monkeypatch.setattr("sortal.training.loop.time.monotonic", lambda: next(ticks))


def test_a_time_budget_ends_training_with_the_learning_rate_run_down(monkeypatch):
    ticking(monkeypatch)
    said: list[str] = []
    loop = make_loop(epochs=10, max_minutes=10 / 60, warmup_ratio=0.1, say=said.append)
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
    plain, ample = make_loop(epochs=2), make_loop(epochs=2, max_minutes=60.0)
    assert plain.run().step == ample.run().step == 6
    for name, value in plain.parameters.items():
        assert torch.equal(value, ample.parameters[name])


def test_a_resumed_run_has_what_is_left_of_its_budget(monkeypatch, tmp_path):
    ticking(monkeypatch)
    stop = StopRequest()
    store = CheckpointStore(tmp_path, 2)
    with pytest.raises(Interrupted):
        make_loop(epochs=10, max_minutes=10 / 60, store=store, stop=stop, view=stopping_at(4, stop)).run()
    second = make_loop(epochs=10, max_minutes=10 / 60, store=store)
    assert second.resume()
    assert second.run().step == 10
