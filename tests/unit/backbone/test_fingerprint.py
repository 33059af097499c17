from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sortal.backbone.fingerprint import weights_fingerprint


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def _change(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def _nudge(tensors):
    for name, tensor in tensors.items():
        if "layers.1.mlp" in name:
            tensor.add_(1e-3)


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    "change",
    [
        _nudge,
        lambda t: t[NORM].mul_(2),
        lambda t: t.update({NORM: t[NORM].bfloat16()}),
        lambda t: t.update({NORM: t[NORM][:4].clone()}),
        lambda t: t.update({"more": torch.zeros(1)}),
        lambda t: t.pop(NORM),
    ],
)
def test_other_weights_have_another_fingerprint(folder, tiny, change):
    assert weights_fingerprint(folder) == weights_fingerprint(tiny)
    _change(folder, change)
    assert weights_fingerprint(folder) != weights_fingerprint(tiny)


def test_sharding_and_other_files_do_not_change_it(folder, tiny):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    (folder / "README.md").write_text("new")
    save_file({n: tensors[n] for n in names[::2]}, folder / "b.safetensors")
    save_file({n: tensors[n] for n in names[1::2]}, folder / "a.safetensors")
    assert weights_fingerprint(folder) == weights_fingerprint(tiny)


def test_scalars_and_stacked_experts_are_read(tmp_path):
    save_file(
        {
            "scalar": torch.tensor(1.0),
            "experts": torch.randn(2, 3, 4),
            "bytes": torch.ones(3, 1, dtype=torch.uint8),
        },
        tmp_path / "model.safetensors",
    )
    assert len(weights_fingerprint(tmp_path)) == 16
