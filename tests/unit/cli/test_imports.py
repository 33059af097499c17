"""Which heavy modules a verb may not import: start-up time, held without a clock."""

from __future__ import annotations

import subprocess
import sys

import pytest

from baseline_runs import baseline
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


# A linear model multiplies sparse matrices; scikit-learn counts its words.
NOT_TO_COUNT = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "sklearn.svm",
    "sklearn.linear_model",
    "datasets",
)


@pytest.mark.parametrize("method", ["tfidf", "majority"])
def test_an_answer_of_a_method_without_a_network_imports_no_model_library(method, tmp_path):
    data = write_csv(tmp_path / "data.csv", rows(24))
    baseline(data, tmp_path / "run", method)
    words = ["predict", str(tmp_path / "run" / "model"), "-"]
    assert loaded_by(words, NOT_TO_COUNT, "a fine day\n") == []


def test_an_encoder_answers_without_peft(tmp_path, tiny_encoders):
    data = write_csv(tmp_path / "data.csv", rows(24))
    fit(data, tiny_encoders["bert"], tmp_path / "run", method="encoder")
    words = ["predict", str(tmp_path / "run" / "model"), "-"]
    assert loaded_by(words, ("peft", *NOT_TO_ANSWER), "a fine day\n") == []


def test_a_folder_that_is_no_model_is_refused_before_torch_is_imported(tmp_path):
    code = (
        "import sys\nfrom sortal.cli.main import main\n"
        f"code = main(['predict', {str(tmp_path)!r}, '-'])\nsys.exit(code != 2 or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, input="").returncode == 0


def test_doctor_models_and_config_load_no_model_library():
    heavy = ("torch", "transformers", "peft", "sklearn", "datasets", "pandas")
    for words in (["models", "list"], ["config", "schema"]):
        assert loaded_by(words, heavy) == [], words


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
