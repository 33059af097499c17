"""Two processes (gloo) take the same steps as one, and only the main one writes and talks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import accidents
from commands import Command
from tiny_runs import rows, write_csv

SETTINGS = ["dtype=float32", "threads=1", "learning_rate=0.005", "head_learning_rate=0.05"]
SETTINGS += ["max_length=96", "n_resamples=100", "early_stopping_patience=9"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """60 rows, of which 45 are for training: steps of 4 leave a last one of a single example, fewer than processes."""
    folder = tmp_path_factory.mktemp("data")
    single = rows(60, ("good", "bad", "odd"))
    multi = [(text, int(i % 2 == 0), int(i % 3 == 0), int(i % 5 < 2)) for i, (text, _) in enumerate(single)]
    return {
        "single": write_csv(folder / "single.csv", single),
        "multi": write_csv(folder / "multi.csv", multi, ("text", "even", "third", "fifth")),
    }


def arguments(data: Path, tiny: Path, out: str, *more: str) -> list[str]:
    columns = ["--label-columns", "even,third,fifth"] if data.stem == "multi" else []
    fixed = ["train", data, "--model", tiny, "--epochs", 2, "--batch-size", 4, "--out", out, *columns, *more]
    return [*map(str, fixed), "--json", "--set", *SETTINGS]


def launched(
    argv: list[str], folder: Path, before: Any = (None, None), mpirun: bool = False
) -> tuple[Command, Command]:
    """Two processes with the environment that ``torchrun`` gives, or Open MPI's ``mpirun``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    first, second = (
        Command(*argv, folder=folder, before=before[i], env={**common, "RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(2)
    )
    return first, second


@pytest.fixture(scope="module", params=["single", "multi"])
def pair(request: Any, data: Any, tiny: Path, tmp_path_factory: Any) -> tuple[Path, str, Path]:
    """A folder with the run ``one`` of one process and the run ``two`` of two."""
    folder = tmp_path_factory.mktemp(request.param)
    alone = Command(*arguments(data[request.param], tiny, "one"), folder=folder)
    both = launched(arguments(data[request.param], tiny, "two"), folder)
    assert [command.wait() for command in (alone, *both)] == [0, 0, 0], both[0].stderr + both[1].stderr
    assert both[1].stdout + both[1].stderr == "", "only the main process talks"
    assert json.loads(both[0].stdout.splitlines()[-1])["run_folder"] == "two"
    return folder, request.param, data[request.param]


def check_same(two: Path, one: Path) -> None:
    """Weights, probabilities and every figure within 1e-4."""
    ours, theirs = (load_file(run / "model" / "adapter_model.safetensors") for run in (two, one))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-4)
    ours, theirs = (json.loads((run / "metrics.json").read_text()) for run in (two, one))
    compared = 0
    for key, value in theirs.items():
        if isinstance(value, float):
            assert ours[key] == pytest.approx(value, abs=1e-4), key
            compared += 1
    assert compared >= 5
    ours, theirs = (pq.read_table(run / "predictions.parquet").to_pandas() for run in (two, one))
    assert list(ours.columns) == list(theirs.columns)
    numbers = theirs.select_dtypes("number").columns
    np.testing.assert_allclose(ours[numbers], theirs[numbers], atol=1e-4)
    assert ours["id"].tolist() == theirs["id"].tolist()


def test_two_processes_end_where_one_ends(pair):
    folder, _, _ = pair
    check_same(folder / "two", folder / "one")
    record = json.loads((folder / "two" / "run.json").read_text())
    assert record["environment"]["processes"] == 2
    alone = json.loads((folder / "one" / "run.json").read_text())
    for key in ("steps", "tokens", "train_tokens_per_epoch"):
        assert record["training"][key] == alone["training"][key]


def test_only_the_main_process_writes(pair):
    folder, _, _ = pair
    names = [
        sorted(
            str(p.relative_to(folder / run)) if "tfevents" not in p.name else "events"
            for p in (folder / run).rglob("*")
        )
        for run in ("two", "one")
    ]
    assert names[0] == names[1]


def test_a_signal_to_one_process_stops_both_and_one_process_can_go_on(pair, tiny, tmp_path):
    folder, _, data = pair
    before = (None, accidents.signalled_at_step(8, signal.SIGTERM))
    both = launched(arguments(data, tiny, "run"), tmp_path, before)
    assert [command.wait() for command in both] == [143, 143]
    assert "stopped by SIGTERM after step 8 of 24" in both[0].stderr
    alone = Command(*arguments(data, tiny, "run", "--resume"), folder=tmp_path)
    assert alone.wait() == 0
    assert "resuming at step 8 of 24" in alone.stderr
    check_same(tmp_path / "run", folder / "one")


def test_processes_of_mpirun_find_each_other(pair, tiny, tmp_path):
    folder, _, data = pair
    both = launched(arguments(data, tiny, "run"), tmp_path, mpirun=True)
    assert [command.wait() for command in both] == [0, 0], both[0].stderr + both[1].stderr
    check_same(tmp_path / "run", folder / "one")


def test_a_run_that_the_main_process_refuses_ends_the_others_too(pair, tiny):
    folder, _, data = pair
    both = launched(arguments(data, tiny, "two"), folder)
    assert both[0].wait() == 2
    assert "two holds a finished run" in both[0].stderr
    assert both[1].wait() != 0


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": [
        # Its --cpu starts one process only, unless mpirun is there; SORTAL_DEVICE says which device is meant.
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_launchers_give_what_one_process_gives(launcher, pair, tiny, tmp_path):
    folder, task, data = pair
    if (launcher, task) not in (("torchrun", "single"), ("accelerate", "multi")):
        pytest.skip("each launcher with one task: they only set the environment")
    words = [
        sys.executable,
        "-m",
        *LAUNCHERS[launcher],
        "-m",
        "sortal.cli.main",
        *arguments(data, tiny, "run"),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SORTAL_DEVICE": "cpu"}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "finished"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["environment"]["processes"] == 2
    check_same(tmp_path / "run", folder / "one")


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_base_shared_by_two_processes_ends_where_a_whole_one_ends(quantization, data, tiny, tmp_path):
    """Slices of the frozen base (also packed 4-bit ones) gathered layer by layer give the steps of the whole base."""
    more = ["--quantization", quantization]
    more += ["--set", "nf4_backend=bitsandbytes"] if quantization == "nf4" else []
    alone = Command(*arguments(data["single"], tiny, "one", *more), folder=tmp_path)
    # a small token budget gives the two processes different numbers of microbatches
    both = launched(
        arguments(data["single"], tiny, "two", *more, "--set", "shard_base=true", "max_tokens=130"), tmp_path
    )
    assert [command.wait() for command in (alone, *both)] == [0, 0, 0], both[0].stderr + both[1].stderr
    assert "base shared by 2 processes" in both[0].stderr
    check_same(tmp_path / "two", tmp_path / "one")


def test_sharing_a_base_needs_several_processes(data, tiny, tmp_path):
    command = Command(*arguments(data["single"], tiny, "one", "--set", "shard_base=true"), folder=tmp_path)
    assert command.wait() == 2
    assert "torchrun" in command.stderr
