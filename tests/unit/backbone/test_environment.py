"""Facts about the machine are right for known inputs and complete on this one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sortal.backbone import environment

XEON = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile\nflags\t\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n"
OLD = "processor\t: 0\nflags\t\t: fpu sse2 avx2 bf16x\n"


@pytest.mark.parametrize(("text", "fast"), [(XEON, True), (ARM, True), (OLD, False), ("", False)])
def test_fast_bf16_follows_the_cpu_flags(monkeypatch, text, fast):
    monkeypatch.setattr(environment, "cpu_flags", lambda: environment.parse_cpu_flags(text))
    assert environment.fast_bf16("cpu") is fast


def test_only_relevant_flags_are_kept():
    assert environment.parse_cpu_flags(XEON) == {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile"}


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_fast_bf16_follows_the_gpu_generation(monkeypatch, capability, fast):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    assert environment.fast_bf16("cuda:0") is fast


def test_facts_are_plain_json_and_complete(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "not" / "there"))
    facts = environment.look().to_json()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cache_bytes"] == 0
    assert facts["free_disk_bytes"] > 0
    assert 0 < facts["free_memory_bytes"] <= facts["total_memory_bytes"]
    assert facts["packages"]["torch"]
    assert facts["devices"][-1].startswith("cpu ")
    assert set(facts["fast_bf16"]) == set(facts["four_bit"])


def test_missing_packages_come_with_the_command(monkeypatch):
    present = environment.version_of
    monkeypatch.setattr(
        environment, "version_of", lambda name: None if name in ("bitsandbytes", "peft") else present(name)
    )
    found = dict(environment.look().missing())
    assert found["bitsandbytes: true 4-bit layers (NF4)"] == 'pip install "sortal[gpu]"'
    assert found["peft: required"] == "pip install peft"
    assert "needs bitsandbytes" in environment.look().four_bit["cpu"]


def test_missing_torch_is_a_fact_not_a_crash(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert environment.device_kinds() == ("cpu",)
    assert environment.look().devices[0].startswith("cpu ")


def test_modules_do_not_import_torch():
    names = "sources, registry, pypi, carried, hub, cache, environment, gguf_convert"
    code = f"import sys; from sortal.backbone import {names}; import sortal.cli.models, sortal.cli.doctor; "
    code += "sys.exit(bool({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
