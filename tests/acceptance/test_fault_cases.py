"""Acceptance cases F1–F8 and F11: kills, signals, damage, full disks, other data, NaN, lack of memory, two processes on one folder.

F9 and F10 are cases of the models, F12 of bulk prediction.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import accidents
from commands import Command
from sortal.cli.main import main
from sortal.training.checkpoints import Checkpoint
from tiny_runs import rows, write_csv

STEPS = 18  # 45 training rows in steps of 8, three epochs
SETTINGS = [
    *("dtype=float32", "threads=1", "learning_rate=0.005", "head_learning_rate=0.05"),
    *("max_length=96", "n_resamples=100", "early_stopping_patience=9"),
    # Dropout makes the random state part of the result; save_minutes=0 saves after every step.
    *("lora_dropout=0.1", "save_minutes=0"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "d.csv", rows(60, ("good", "bad", "odd")))


@pytest.fixture(scope="module")
def arguments(data: Path, tiny: Path) -> Callable[..., list[str]]:
    """``sortal train`` into ``out``, with more settings."""

    def made(out: str | Path, *more: str, flags: tuple[str, ...] = ()) -> list[str]:
        fixed = ["train", data, "--model", tiny, "--epochs", 3, "--batch-size", 8, "--out", out, *flags]
        return [*map(str, fixed), "--set", *SETTINGS, *more]

    return made


@pytest.fixture(scope="module")
def whole(arguments: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to, saving at evaluations only; ``calls`` beside it says how long it is."""
    folder = tmp_path_factory.mktemp("whole")
    more = ("save_minutes=60", "save_total_limit=1")
    command = Command(
        *arguments("run", *more), folder=folder, before=accidents.counting_calls(folder / "calls")
    )
    assert command.wait() == 0, command.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def half(arguments: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped by SIGTERM in step 7, with checkpoints of steps 6 and 7."""
    folder = tmp_path_factory.mktemp("half")
    command = Command(*arguments("run"), folder=folder, before=accidents.signalled_at_step(7, signal.SIGTERM))
    assert command.wait() == 143, command.stderr
    return folder / "run"


@pytest.fixture
def stopped(half: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run, to do something to."""
    return shutil.copytree(half, tmp_path / "run")


def result(run: Path) -> dict[str, Any]:
    """Everything about a finished run that must not depend on what happened to it."""
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    return {
        "adapter": (run / "model" / "adapter_model.safetensors").read_bytes(),
        "metrics": (run / "metrics.json").read_text(),
        "predictions": pq.read_table(run / "predictions.parquet"),
        "training": {key: record["training"][key] for key in ("history", "steps", "tokens", "best_step")},
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def steps(run: Path) -> list[int]:
    """Steps of the checkpoints, all of them complete."""
    found = [Checkpoint(p, int(p.name[5:])) for p in (run / "checkpoints").glob("step-*")]
    assert [c.damage() for c in found] == [None] * len(found)
    return sorted(c.step for c in found)


def test_f1_killed_at_20_random_instants_and_resumed_it_ends_bit_identical(arguments, whole, tmp_path):
    chance = random.Random(1)
    calls = int((whole.parent / "calls").read_text())
    kinds = ["call"] * 8 + ["save"] * 8 + ["clock"] * 4
    chance.shuffle(kinds)
    inside_a_save, finished, run, resume = 0, 0, tmp_path / "0", ()

    def start(before: Callable[[], None] | None) -> Command:
        # Relative names: the record of a run must not depend on where it is resumed from.
        return Command(*arguments(run.name, flags=resume), folder=tmp_path, before=before)

    def compare() -> None:
        nonlocal finished, run, resume
        assert result(run) == result(whole)
        finished, run, resume = finished + 1, tmp_path / str(finished + 1), ()

    for kind in kinds:
        killed = False
        while not killed:
            if kind == "clock":
                command = start(None)
                command.until(lambda: "trainable of" in command.stderr)  # noqa: B023 - called at once
                if not command.ended_within(chance.uniform(0, 0.4)):
                    command.send(signal.SIGKILL)
            elif kind == "save":
                command = start(accidents.killed_in_a_save(chance.randint(1, 70)))
            else:
                command = start(accidents.killed_after_calls(chance.randint(1, calls // 4)))
            code = command.wait()
            killed = code == -signal.SIGKILL
            if not killed:  # the accident would have come after the end
                assert code == 0, command.stderr
                compare()
        inside_a_save += bool(list((run / "checkpoints").glob(".step-*")))
        assert len(steps(run)) <= 3
        resume = ("--resume",)
    command = start(None)
    expected = max(steps(run), default=0)
    assert command.wait() == 0, command.stderr
    if expected:
        assert f"resuming at step {expected} of {STEPS}" in command.stderr
    compare()
    assert inside_a_save >= 4
    assert not list(tmp_path.rglob(".*tmp-*")), "temporaries of killed processes are cleared"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_f2_a_signal_ends_the_step_and_leaves_a_checkpoint_to_resume(
    arguments, whole, tmp_path, number, code
):
    command = Command(*arguments("run"), folder=tmp_path, before=accidents.signalled_at_step(7, number))
    assert command.wait() == code
    assert f"stopped by {number.name} after step 7 of {STEPS}\n→ a checkpoint is written" in command.stderr
    assert "Traceback" not in command.stderr
    assert steps(tmp_path / "run")[-1] == 7
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    assert not (tmp_path / "run" / "model").exists()
    command = Command(*arguments("run", flags=("--resume",)), folder=tmp_path)
    assert command.wait() == 0
    assert "resuming at step 7 of 18" in command.stderr
    assert result(tmp_path / "run") == result(whole)


def test_f2_a_signal_inside_a_dev_evaluation_does_not_wait_for_its_end(arguments, whole, tmp_path):
    before = accidents.signalled_while_evaluating(2, signal.SIGTERM)
    command = Command(*arguments("run"), folder=tmp_path, before=before)
    assert command.wait() == 143
    assert steps(tmp_path / "run")[-1] == 12
    state = json.loads((tmp_path / "run/checkpoints/step-00000012/state.json").read_text())
    assert [entry["step"] for entry in state["progress"]["history"]] == [6], "the second one was not finished"
    command = Command(*arguments("run", flags=("--resume",)), folder=tmp_path)
    assert command.wait() == 0
    assert result(tmp_path / "run") == result(whole), "it was made up for"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_f2_a_signal_before_training_ends_at_once_and_leaves_nothing(arguments, tmp_path, number, code):
    before = accidents.signalled_while_reading(number)
    command = Command(*arguments("runs/new"), folder=tmp_path, before=before)
    assert command.wait() == code
    assert command.stderr.strip().endswith("stopped")
    assert not (tmp_path / "runs").exists()


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 100)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [cut, flip])
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_f3_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    arguments, whole, stopped, tmp_path, harm, name
):
    harm(stopped / "checkpoints" / "step-00000007" / name)
    command = Command(*arguments("run", flags=("--resume",)), folder=tmp_path)
    assert command.wait() == 0
    assert f"warning: checkpoint step-00000007 is damaged ({name} has" in command.stderr or (
        f"warning: checkpoint step-00000007 is damaged (the contents of {name} do not match" in command.stderr
    )
    assert "resuming at step 6 of 18" in command.stderr
    assert result(stopped) == result(whole)


def test_f3_without_any_valid_checkpoint_it_fails_and_starts_nothing(arguments, stopped, capsys):
    for folder in (stopped / "checkpoints").iterdir():
        cut(folder / "tensors.safetensors")
    before = contents(stopped)
    assert main(arguments(stopped, flags=("--resume",))) == 2
    said = capsys.readouterr().err
    assert f"error: no checkpoint in {stopped / 'checkpoints'} can be used" in said
    assert "epoch 1" not in said
    after = contents(stopped)
    assert {name: after[name] for name in before if name.startswith("checkpoints")} == {
        name: value for name, value in before.items() if name.startswith("checkpoints")
    }
    assert not (stopped / "model").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs with room for one checkpoint."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=420k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_f4_a_full_disk_keeps_the_old_checkpoint_and_names_the_bytes(arguments, whole, small_disk, capsys):
    run = small_disk / "run"
    assert main(arguments(run)) == 3
    said = capsys.readouterr().err
    assert "error: the disk is full" in said
    assert " bytes are needed and " in said
    assert "are free in" in said
    kept = steps(run)
    assert kept
    assert kept[-1] < STEPS
    assert not list(run.rglob(".*tmp-*"))
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    command = Command(*arguments(run, flags=("--resume",)), folder=small_disk.parent)
    assert command.wait() == 0, command.stderr
    assert f"resuming at step {kept[-1]} of" in command.stderr
    assert result(run) == result(whole)


def test_f4_the_same_on_any_machine(arguments, tmp_path, monkeypatch, capsys):
    from sortal.training import checkpoints

    save, done = checkpoints.save_file, []

    def fails(tensors: Any, path: Path) -> None:
        done.append(path)
        if len(done) == 4:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", fails)
    assert main(arguments(tmp_path / "run")) == 3
    assert "error: the disk is full" in capsys.readouterr().err
    assert steps(tmp_path / "run") == [2, 3]
    assert not list(tmp_path.rglob(".*tmp-*"))
    assert "disk is full" in json.loads((tmp_path / "run" / "run.json").read_text())["reason"]


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither data nor model may be looked at."""
    from sortal import run

    def never(*arguments: Any, **more: Any) -> None:
        pytest.fail("the model or the data was touched")

    monkeypatch.setattr(run, "resolve", never)
    monkeypatch.setattr(run, "read_parts", never)


@pytest.mark.usefixtures("untouched")
def test_f5_a_finished_run_is_refused_before_the_model_is_loaded(arguments, whole, capsys):
    before = contents(whole)
    assert main(arguments(whole)) == 2
    assert f"error: {whole} holds a finished run\n→ choose another --out" in capsys.readouterr().err
    assert contents(whole) == before


@pytest.mark.usefixtures("untouched")
def test_f5_an_unfinished_run_asks_for_resume_before_the_model_is_loaded(arguments, stopped, capsys):
    before = contents(stopped)
    assert main(arguments(stopped)) == 2
    assert "continue it with --resume" in capsys.readouterr().err
    assert contents(stopped) == before


@pytest.mark.usefixtures("untouched")
def test_f5_a_place_that_cannot_be_written_is_refused_before_the_model_is_loaded(arguments, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.docx").write_text("mine")
    places = {"file": "is or lies under a file", "file/run": "is or lies under a file"}
    places |= {"other": "not a run's folder (it holds 'thesis.docx')", "/proc/run": "/proc/run cannot be"}
    for place, reason in places.items():
        assert main(arguments(tmp_path / place)) == 2
        assert reason in capsys.readouterr().err
    assert contents(tmp_path) == {"file": b"mine", "other/thesis.docx": b"mine"}


def other_text(data: Path, folder: Path, models: dict[str, Path]) -> dict[str, Any]:
    return {
        "data": write_csv(folder / "d.csv", [("entirely new", "odd"), *rows(60, ("good", "bad", "odd"))[1:]])
    }


def other_labels(data: Path, folder: Path, models: dict[str, Path]) -> dict[str, Any]:
    return {"data": write_csv(folder / "d.csv", rows(60, ("good", "bad", "new")))}


def other_model(data: Path, folder: Path, models: dict[str, Path]) -> dict[str, Any]:
    return {"model": models["mistral"]}


def other_seed(data: Path, folder: Path, models: dict[str, Path]) -> dict[str, Any]:
    return {"seed": 1}


def other_setting(data: Path, folder: Path, models: dict[str, Path]) -> dict[str, Any]:
    return {"learning_rate": 0.004}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_text, " data: "),
        (other_labels, "labels: 1 added (new), 1 removed (odd)"),
        (other_model, "base model: "),
        (other_seed, "seed: 0 → 1"),
        (other_setting, "learning_rate: 0.005 → 0.004"),
    ],
)
def test_f6_resuming_another_run_is_refused_with_the_difference(
    data, arguments, stopped, tmp_path, tiny_models, capsys, change, reason
):
    changed = [f"{key}={value}" for key, value in change(data, tmp_path, tiny_models).items()]
    before = contents(stopped)
    assert main(arguments(stopped, *changed, flags=("--resume",))) == 2
    said = capsys.readouterr().err
    assert "error: the run to resume is another one: " in said
    assert reason in said
    assert "--force" in said
    assert contents(stopped) == before


def test_f6_other_weights_under_the_same_name_are_another_base_model(arguments, tiny, tmp_path, capsys):
    from model_files import save_tiny

    base, model = shutil.copytree(tiny, tmp_path / "base"), f"model={tmp_path / 'base'}"
    command = Command(
        *arguments("run", model), folder=tmp_path, before=accidents.signalled_at_step(3, signal.SIGTERM)
    )
    assert command.wait() == 143
    save_tiny("llama", base, seed=1)
    assert main(arguments(tmp_path / "run", model, flags=("--resume",))) == 2
    assert "error: the run to resume is another one: revision: " in capsys.readouterr().err


def test_f6_force_accepts_the_difference_and_says_it(arguments, stopped, capsys):
    assert main(arguments(stopped, "seed=1", flags=("--resume", "--force"))) == 0
    said = capsys.readouterr().err
    assert "resuming although this differs — seed: 0 → 1" in said
    assert "resuming at step 7 of 18" in said
    assert json.loads((stopped / "run.json").read_text())["config"]["seed"] == 1


def test_f11_the_second_process_on_a_folder_is_refused_and_a_killed_one_holds_nothing(
    arguments, whole, tmp_path, capsys
):
    first = Command(*arguments("run"), folder=tmp_path, before=accidents.held_at_step(5, tmp_path / "held"))
    first.until((tmp_path / "held").exists)
    for flags in ((), ("--resume",)):
        assert main(arguments(tmp_path / "run", flags=flags)) == 3
        assert f"error: {tmp_path / 'run'} is in use by process {first.pid} on " in capsys.readouterr().err
    assert steps(tmp_path / "run") == [3, 4]
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    second = Command(*arguments("run", flags=("--resume",)), folder=tmp_path)
    assert second.wait() == 0
    assert result(tmp_path / "run") == result(whole)
