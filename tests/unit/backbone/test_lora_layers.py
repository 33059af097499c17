"""LoRA layers are told from others without importing peft."""

from __future__ import annotations

import subprocess
import sys

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from sortal.backbone.lora_layers import is_lora


def test_only_a_projection_with_adapters_is_one():
    model = get_peft_model(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), LoraConfig(target_modules=["0"]))
    found = [name for name, module in model.named_modules() if is_lora(module)]
    assert found == ["base_model.model.0"]
    assert model.get_submodule(found[0])(torch.ones(1, 4)).shape == (1, 4)


def test_asking_imports_nothing():
    code = (
        "import sys\nfrom sortal.backbone.lora_layers import is_lora\n"
        "sys.exit(is_lora(object()) or 'peft' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
