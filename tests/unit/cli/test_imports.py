"""Which heavy modules a verb may not import: start-up time, held without a clock."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tiny_runs import fit, rows, write_csv

# What each costs at start-up, and what needs it: 4-bit layers; torch's code generator; linear methods; fitting; a hub; a bar.
NOT_TO_ANSWER = (
    "bitsandbytes",
    "torch._inductor.compile_fx",
    "sklearn",
    "pandas",
    "datasets",
    "rich.console",
    "fastapi",
    "tensorboard",
    "bitsandbytes.functional",
)


def loaded_by(words: list[str], modules: tuple[str, ...], stdin: str = "") -> list[str]:
    """Those of ``modules`` that ``sortal WORDS`` leaves imported in a fresh process."""
    code = (
        "import sys\nfrom sortal.cli.main import main\n"
        f"code = main({words!r})\nprint('LOADED', *[m for m in {modules!r} if m in sys.modules])\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, input=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("LOADED")[2].split()


@pytest.fixture(scope="module")
def head(tmp_path_factory, tiny_models):
    folder = tmp_path_factory.mktemp("imports")
    data = write_csv(folder / "data.csv", rows(24))
    fit(data, tiny_models["llama"], folder / "run")
    return folder / "run" / "model"


@pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import bitsandbytes"], capture_output=True).returncode != 0,
    reason="bitsandbytes is not installed: nothing would import it",
)
def test_an_answer_imports_no_4_bit_layers_no_compiler_backend_and_no_other_methods(head):
    assert loaded_by(["predict", str(head), "-"], NOT_TO_ANSWER, "a fine day\n") == []


def test_doctor_models_and_config_load_no_model_library():
    heavy = ("torch", "transformers", "peft", "sklearn", "datasets", "pandas")
    for words in (["models", "list"], ["config", "schema"]):
        assert loaded_by(words, heavy) == [], words


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_kernels_are_bounded_before_torch_reads_how_many(verb, head, tmp_path):
    data = write_csv(tmp_path / "data.csv", rows(24))
    words = {"train": [str(data), "--method", "majority"], "evaluate": [str(head), str(data)]}[verb]
    code = (
        "import os, sys\nfrom sortal.backbone import kernels\nbound = kernels.bound_kernels\n"
        "def watched():\n    print('EARLY' if 'torch' not in sys.modules else 'LATE')\n    bound()\n"
        f"kernels.bound_kernels = watched\nfrom sortal.cli.main import main\nmain({[verb, *words, '--out', str(tmp_path / 'out')]!r})\n"
        "print('KEPT', os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "EARLY" in done.stdout.split(), done.stderr
    assert "LATE" not in done.stdout.split()
    assert done.stdout.split()[-2:] == ["KEPT", "64"]


def test_peft_still_finds_4_bit_layers_once_bitsandbytes_is_imported():
    pytest.importorskip("bitsandbytes")
    code = (
        "import sys\nfrom sortal.backbone import adapters\nimport peft.helpers, peft.tuners.lora.model as lora\n"
        "assert 'bitsandbytes' not in sys.modules\nassert not lora.is_bnb_4bit_available()\n"
        "assert callable(peft.helpers.bnb.functional.dequantize_4bit)\n"  # imports it on first use
        "assert 'bitsandbytes' in sys.modules\nassert lora.is_bnb_available() and lora.is_bnb_4bit_available()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
