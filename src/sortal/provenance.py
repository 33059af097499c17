"""Where a result comes from: the command, the machine and the versions behind it."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sortal
from sortal.training.distributed import Processes


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"sortal": sortal.__version__, "python": platform.python_version()}
    for name in (
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "tokenizers",
        "numpy",
        "scikit-learn",
        "bitsandbytes",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment(group: Processes) -> dict[str, Any]:
    """The machine and the libraries of a run."""
    import torch

    from sortal.backbone import native

    device = (
        torch.cuda.get_device_name(group.device)
        if group.device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "versions": versions(),
        "device": device,
        "processes": group.world,
        "threads": torch.get_num_threads(),
        "native_kernels": native.state(),
        "platform": platform.platform(),
    }


def command_line() -> list[str]:
    """The command as it was given, without the folder of the program; a module that was run by its name is called so."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return [Path(sys.argv[0]).name, *sys.argv[1:]]
    return ["python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]]
