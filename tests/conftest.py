"""Fixtures shared by all tiers: tiny random decoders of several families, and a small labelled file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

FAMILIES = ("llama", "qwen3", "gemma3", "mistral", "gpt2")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random 2-layer decoders, one per family, each with a byte-level tokenizer."""
    from model_files import save_tiny

    root = tmp_path_factory.mktemp("models")
    return {family: save_tiny(family, root / family) for family in FAMILIES}


@pytest.fixture(scope="session")
def tiny(tiny_models: dict[str, Path]) -> Path:
    """The tiny Llama."""
    return tiny_models["llama"]


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random 2-layer encoders, one per family."""
    from encoder_files import ENCODERS, save_tiny_encoder

    root = tmp_path_factory.mktemp("encoders")
    return {family: save_tiny_encoder(family, root / family) for family in ENCODERS}


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the public data sets; tests that need one skip without it."""
    root = Path(os.environ.get("SORTAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("public data sets are not on this machine (set SORTAL_DATA to their folder)")
    return root
