"""TensorBoard events where the package is there; nothing, without complaint, where it is not."""

from __future__ import annotations

import sys

import pytest

from sortal.training.logs import open_log


def test_figures_are_written_as_events(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log(tmp_path) as log:
        log(3, {"f1_macro": 0.5, "train_loss": 1.25})
        log(6, {"f1_macro": 0.75, "train_loss": float("nan")})
        found = EventAccumulator(str(tmp_path)).Reload()  # before the end, so that a watcher sees them
        assert [(event.step, event.value) for event in found.Scalars("f1_macro")] == [(3, 0.5), (6, 0.75)]
    assert [event.step for event in EventAccumulator(str(tmp_path)).Reload().Scalars("train_loss")] == [3, 6]


def test_without_the_package_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with open_log(tmp_path / "logs") as log:
        log(1, {"loss": 1.0})
    assert not (tmp_path / "logs").exists()


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_log(None) as log:
        log(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_the_events_are_closed_also_after_an_error(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    closed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SummaryWriter, "close", lambda writer: closed.append(writer))
        with pytest.raises(ValueError), open_log(tmp_path):
            raise ValueError
    assert len(closed) == 1
