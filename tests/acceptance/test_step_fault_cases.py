"""Acceptance cases F7 and F8: a NaN, an infinity or a lack of memory in the middle of a step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sortal.cli.main import main
from sortal.methods.head_model import HeadModel
from sortal.training.loop import Loop
from tiny_runs import rows, write_csv

CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "d.csv", rows(40, ("good", "bad", "odd")))


@pytest.fixture
def train(data: Path, tiny: Path, tmp_path: Path) -> Callable[..., int]:
    """``sortal train`` into ``tmp_path/out``: two epochs of 4 steps of 8 examples; the exit code."""

    def run(*more: str, out: str = "run") -> int:
        fixed = ["train", data, "--model", tiny, "--epochs", 2, "--batch-size", 8, "--out", tmp_path / out]
        settings = ["dtype=float32", "threads=1", "learning_rate=0.005", "max_length=96", "n_resamples=100"]
        return main([*map(str, fixed), "--set", *settings, *more])

    return run


def record(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "run.json").read_text())
    return values


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What is trained, and the optimiser's state, before and after every step."""
    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []
    step = Loop._step

    def snapshot(loop: Loop) -> dict[str, Any]:
        state = {name: loop.optimizer.state.get(p, {}) for name, p in loop.parameters.items()}
        moments = {
            f"{name}/{key}": value.clone() for name, held in state.items() for key, value in held.items()
        }
        return {name: p.detach().clone() for name, p in loop.parameters.items()} | moments

    def observed(loop: Loop, batch: Any) -> None:
        before = snapshot(loop)
        step(loop, batch)
        seen.append((before, snapshot(loop)))

    monkeypatch.setattr(Loop, "_step", observed)
    return seen


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def loss_nan(logits: torch.Tensor) -> torch.Tensor:
    return logits * torch.nan


def loss_infinite(logits: torch.Tensor) -> torch.Tensor:
    return logits - torch.tensor([torch.inf, 0.0, 0.0])


def gradient_infinite(logits: torch.Tensor) -> torch.Tensor:
    logits.register_hook(lambda gradient: gradient * torch.inf)
    return logits


def spoil(
    monkeypatch: pytest.MonkeyPatch, how: Callable[[torch.Tensor], torch.Tensor], steps: set[int]
) -> None:
    """Change the logits of these training steps (1-based); one microbatch per step."""
    forward, done = HeadModel.forward, 0

    def spoiled(model: HeadModel, packed: Any) -> torch.Tensor:
        nonlocal done
        logits = forward(model, packed)
        if not torch.is_grad_enabled():
            return logits
        done += 1
        return how(logits) if done in steps else logits

    monkeypatch.setattr(HeadModel, "forward", spoiled)


@pytest.mark.parametrize("how", [loss_nan, loss_infinite, gradient_infinite])
def test_f7_the_step_is_skipped_with_weights_and_optimiser_unchanged_and_counted(
    train, tmp_path, monkeypatch, weights, capsys, how
):
    spoil(monkeypatch, how, {3})
    assert train() == 0
    assert "step 3: loss " in (said := capsys.readouterr().err)
    assert "skipped, weights unchanged" in said
    assert len(weights) == 8
    assert [same(before, after) for before, after in weights] == [step == 3 for step in range(1, 9)]
    assert record(tmp_path / "run")["training"]["skipped_steps"] == 1
    adapter = load_file(tmp_path / "run" / "model" / "adapter_model.safetensors")
    assert all(tensor.isfinite().all() for tensor in adapter.values())


def test_f7_the_policy_stop_ends_the_run_with_the_step_and_counts_it(train, tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, loss_nan, {3})
    assert train("nan_policy=stop") == 3
    assert "error: step 3: loss nan, gradient norm nan\n→ lower learning_rate" in capsys.readouterr().err
    found = record(tmp_path / "run")
    assert found["status"] == "failed"
    assert found["reason"].startswith("step 3: loss nan")
    assert found["training"]["skipped_steps"] == 1
    assert not (tmp_path / "run" / "model").exists()


def test_f7_too_many_skipped_steps_in_a_row_end_the_run_but_spread_out_ones_do_not(
    train, tmp_path, monkeypatch, capsys
):
    spoil(monkeypatch, loss_nan, {2, 3, 5, 6})
    assert train("max_nan_steps=2", out="spread") == 0
    assert record(tmp_path / "spread")["training"]["skipped_steps"] == 4
    capsys.readouterr()
    monkeypatch.undo()
    spoil(monkeypatch, loss_nan, {2, 3, 4, 5})
    assert train("max_nan_steps=2") == 3
    assert "error: step 4: loss nan" in capsys.readouterr().err
    assert record(tmp_path / "run")["training"]["skipped_steps"] == 3


def in_forward(monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int) -> None:
    forward, seen = HeadModel.forward, 0

    def failing(model: HeadModel, packed: Any) -> torch.Tensor:
        nonlocal seen
        seen += torch.is_grad_enabled()
        if seen == at and torch.is_grad_enabled():
            raise error
        return forward(model, packed)

    monkeypatch.setattr(HeadModel, "forward", failing)


def in_backward(monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int) -> None:
    backward, seen = torch.Tensor.backward, 0

    def failing(tensor: torch.Tensor) -> None:
        nonlocal seen
        seen += 1
        backward(tensor)  # the worst instant: all of its gradients are added already
        if seen == at:
            raise error

    monkeypatch.setattr(torch.Tensor, "backward", failing)


@pytest.mark.parametrize("where", [in_forward, in_backward])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU_MESSAGE), MemoryError()]
)
def test_f8_out_of_memory_halves_the_microbatch_and_redoes_the_same_examples(
    train, tmp_path, monkeypatch, capsys, where, error
):
    budget = "max_tokens=300"  # 8 examples of about 60 tokens: two microbatches, so that one is half way
    assert train(budget, out="undisturbed") == 0
    where(monkeypatch, error, 4)
    assert train(budget) == 0
    assert "out of memory: microbatches are now at most " in capsys.readouterr().err
    undisturbed, run = (record(tmp_path / name)["training"] for name in ("undisturbed", "run"))
    assert undisturbed["out_of_memory_retries"] == 0
    assert run["out_of_memory_retries"] == 1
    assert run["max_tokens"] <= 150
    assert run["tokens"] == undisturbed["tokens"], "the redone examples count once"
    for ours, theirs in zip(run["history"], undisturbed["history"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    names = [tmp_path / name / "model" / "adapter_model.safetensors" for name in ("run", "undisturbed")]
    found, expected = map(load_file, names)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)


def test_f8_when_one_example_does_not_fit_it_ends_with_a_suggestion_and_nothing_left(
    train, tmp_path, monkeypatch, capsys
):
    sizes = []

    def failing(model: HeadModel, packed: Any) -> torch.Tensor:
        sizes.append(len(packed.last))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(HeadModel, "forward", failing)
    assert train() == 3
    said = capsys.readouterr().err
    assert "error: out of memory on a single example of " in said
    assert "→ lower max_length" in said
    assert "Traceback" not in said
    assert sizes[0] == 8
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
    assert not (tmp_path / "run").exists()


def test_f8_another_error_of_the_model_is_not_taken_for_a_lack_of_memory(train, monkeypatch):
    in_forward(monkeypatch, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train()
