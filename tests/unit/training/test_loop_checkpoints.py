"""What the loop saves, and that a stopped one resumes to the same end."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sortal.errors import CheckpointError, Interrupted
from sortal.training.checkpoints import CheckpointStore
from sortal.training.distributed import Processes
from sortal.training.signals import StopRequest
from toy_loops import ALONE, Toy, Watched, make_loop, sequence, stopping_at


@pytest.mark.parametrize(("minutes", "steps"), [(0, [1, 2, 3, 4, 5, 6]), (1e9, [3, 6])])
def test_checkpoints_come_at_evaluations_and_when_the_minutes_are_over(tmp_path, minutes, steps):
    store = CheckpointStore(tmp_path, keep=9)
    make_loop(store=store, save_minutes=minutes).run()
    assert [checkpoint.step for checkpoint in store.all()] == steps


def test_only_the_main_process_saves(tmp_path):
    class Second(Processes):
        def any(self, flag: bool) -> bool:
            return flag

        def sum_(self, tensors: Any) -> None:
            pass

    make_loop(store=CheckpointStore(tmp_path), processes=Second(1, 2, ALONE.device)).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_a_stopped_loop_resumes_to_the_same_end(tmp_path, at):
    whole = make_loop(metrics=sequence(0.9, 0.1), learning_rate=0.1)
    whole.run()
    stop = StopRequest()
    loop = make_loop(
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
    again = make_loop(
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
    loop = make_loop(store=CheckpointStore(tmp_path), max_tokens=asked or 50, config_max_tokens=asked)
    loop.progress.max_tokens = 7  # after it ran out of memory
    loop.run()
    resumed = make_loop(store=CheckpointStore(tmp_path), max_tokens=again or 60, config_max_tokens=again)
    assert resumed.resume()
    assert resumed.progress.max_tokens == expected


def test_there_is_nothing_to_resume_without_a_checkpoint(tmp_path):
    assert not make_loop(store=CheckpointStore(tmp_path)).resume()
    assert not make_loop().resume()


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    make_loop(store=CheckpointStore(tmp_path)).run()
    with pytest.raises(CheckpointError, match=r"step-00000006 holds no weights that fit score\.weight"):
        make_loop(Toy(labels=4), store=CheckpointStore(tmp_path)).resume()
