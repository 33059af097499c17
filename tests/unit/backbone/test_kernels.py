from __future__ import annotations

import os
import subprocess
import sys

import pytest

WATCH = """
import os, sys

class Import:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print({key: os.environ.get(key) for key in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")}, flush=True)

sys.meta_path.insert(0, Import())
"""


@pytest.mark.parametrize(
    "use",
    [
        "from sortal.cli.main import main; main(['train', 'nowhere.csv'])",
        "from sortal.cli.main import main; main(['predict', 'nowhere', 'nowhere.csv'])",
        "from sortal.cli.main import main; main(['serve', 'nowhere'])",
        "import sortal; sortal.load",
    ],
    ids=["train", "predict", "serve", "python"],
)
def test_the_cpus_kernels_are_bounded_before_torch_is_imported(tmp_path, use):
    env = {**os.environ, "LRU_CACHE_CAPACITY": "7"}
    env.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
    use += "; import torch"  # a refusal may come before anything needed it
    done = subprocess.run(
        [sys.executable, "-c", WATCH + use], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert done.stdout.splitlines()[0] == str(
        {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "7"}
    ), done.stderr
