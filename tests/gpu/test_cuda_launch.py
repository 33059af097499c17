from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tiny_runs import rows, write_csv

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


def _launch(tiny, folder, processes, *more):
    data = write_csv(folder / "data.csv", rows(45, ("odd", "good", "bad")))
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)),
        *(["--multi_gpu"] if processes > 1 else []),
        *("-m", "sortal.cli.main", "train", str(data), "--model", str(tiny), "--out", str(folder / "run")),
        *(
            "--epochs",
            "2",
            "--batch-size",
            "8",
            "--quantization",
            "nf4",
            "--set",
            "n_resamples=100",
            "--json",
        ),
        *more,
    ]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_nf4_through_accelerate_launch(tiny, tmp_path):
    pytest.importorskip("bitsandbytes")
    summary = _launch(tiny, tmp_path, 1)
    assert summary["status"] == "finished"
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").exists()


def test_a_spread_nf4_base_through_accelerate_launch(tiny, tmp_path):
    """The frozen 4-bit base in slices over two devices gives the figures of one device."""
    import torch

    pytest.importorskip("bitsandbytes")
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    alone = _launch(tiny, one, 1)
    spread = _launch(tiny, two, 2, "--set", "shard_base=true")
    assert spread["n"] == alone["n"]
    assert spread["accuracy"] == pytest.approx(alone["accuracy"], abs=0.2)
