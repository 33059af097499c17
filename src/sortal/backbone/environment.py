"""What this machine can do, as facts: for ``sortal doctor``, run.json and the choice of a compute type."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sortal.backbone.cache import cache_dir

CORE = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "safetensors",
    "datasets",
    "numpy",
    "pyarrow",
    "gguf",
)
# package: (extra of this project that installs it, what it is for)
OPTIONAL = {
    "bitsandbytes": ("gpu", "true 4-bit layers (NF4)"),
    "tensorboard": ("track", "TensorBoard events"),
    "mlflow-skinny": ("track", "MLflow tracking"),
    "fastapi": ("serve", "the prediction server"),
    "uvicorn": ("serve", "the prediction server"),
    "prometheus-client": ("serve", "figures of the prediction server"),
    "onnxruntime": ("onnx", "export to ONNX"),
    "ray": ("ray", "distributed search"),
}


@dataclass(frozen=True)
class Environment:
    """Facts about the running process's machine.

    Attributes:
        devices: one line per usable device, the CPU last.
        threads: CPU cores this process may use.
        cpu_flags: those of AMX, AVX-512 and bf16 that the CPU has.
        fast_bf16: device type to whether bfloat16 arithmetic is faster there than float32.
        native_kernels: ``compiled``, or why a CPU computes a step with torch's operators alone (`sortal.backbone.native`).
        four_bit: device type to what ``--quantization nf4`` does there, or why it cannot.
        packages: installed versions; None for what is missing.
        cache_bytes, free_disk_bytes: of the model cache and the disk it is on.
        free_memory_bytes, total_memory_bytes: RAM, a container's limit respected.
    """

    sortal: str
    python: str
    platform: str
    devices: tuple[str, ...]
    threads: int
    cpu_flags: tuple[str, ...]
    fast_bf16: dict[str, bool]
    native_kernels: str
    four_bit: dict[str, str]
    packages: dict[str, str | None]
    cache_dir: str
    cache_bytes: int
    free_disk_bytes: int
    free_memory_bytes: int
    total_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    def missing(self) -> list[tuple[str, str]]:
        """``(what is missing and what for, command that installs it)`` per missing package."""
        found = [(f"{n}: required", f"pip install {n}") for n in CORE if self.packages.get(n) is None]
        for name, (extra, purpose) in OPTIONAL.items():
            if self.packages.get(name) is None:
                found.append((f"{name}: {purpose}", f'pip install "sortal[{extra}]"'))
        return found


def look() -> Environment:
    """Gather the facts; imports torch, which takes a second or two.

    A missing or broken torch is a fact, not an error: `Environment.devices` then says so.
    """
    from sortal import __version__

    flags = cpu_flags()
    free, total = memory()
    folder = cache_dir()
    kinds = device_kinds()
    return Environment(
        sortal=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        devices=_device_lines(kinds),
        threads=usable_cores(),
        cpu_flags=tuple(sorted(flags)),
        fast_bf16={kind: fast_bf16(kind) for kind in kinds},
        native_kernels=_native_kernels(),
        four_bit={kind: _four_bit(kind) for kind in kinds},
        packages={name: version_of(name) for name in (*CORE, *OPTIONAL)},
        cache_dir=str(folder),
        cache_bytes=folder_bytes(folder),
        free_disk_bytes=shutil.disk_usage(_existing(folder)).free,
        free_memory_bytes=free,
        total_memory_bytes=total,
    )


def version_of(package: str) -> str | None:
    """Installed version of a distribution, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_kinds() -> tuple[str, ...]:
    """``cuda``, ``mps`` and ``cpu`` as far as torch can use them, best first."""
    try:
        import torch
    except (ImportError, OSError):  # OSError: a shared library of torch that cannot be loaded
        return ("cpu",)
    found = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def fast_bf16(device: str | None = None) -> bool:
    """Whether bfloat16 arithmetic is native, and so faster than float32, on a device.

    Args:
        device: ``cuda``, ``cuda:1``, ``mps`` or ``cpu``; default: the best one present.
    """
    kind = (device or device_kinds()[0]).partition(":")[0]
    if kind == "cuda":
        import torch

        index = int(device.partition(":")[2] or 0) if device else 0
        return torch.cuda.is_available() and torch.cuda.get_device_capability(index) >= (8, 0)
    # On MPS bfloat16 works but is not faster in the kernels training needs.
    return kind == "cpu" and bool(cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16", "sve_bf16"})


def _native_kernels() -> str:
    try:
        from sortal.backbone import native
    except (ImportError, OSError):  # as in `device_kinds`
        return "none: torch cannot be loaded"
    return native.state()


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Those CPU features that matter for matrix products: AMX, AVX2, AVX-512, VNNI and bf16."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _flags_from_torch()
    return parse_cpu_flags(text)


def parse_cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The relevant flags in the text of ``/proc/cpuinfo`` (x86 ``flags``, Arm ``Features``)."""
    lines = (line for line in cpuinfo.splitlines() if line.lower().startswith(("flags", "features")))
    names = set(next(lines, "").partition(":")[2].split())
    relevant = {
        "avx2",
        "avx512f",
        "avx512_bf16",
        "avx512_vnni",
        "amx_bf16",
        "amx_tile",
        "amx_int8",
        "bf16",
        "svebf16",
    }
    return frozenset("sve_bf16" if name == "svebf16" else name for name in names & relevant)


def _flags_from_torch() -> frozenset[str]:
    try:
        import torch
    except (ImportError, OSError):
        return frozenset()
    asked = {
        "avx512_bf16": "_is_avx512_bf16_supported",
        "amx_tile": "_is_amx_tile_supported",
        "avx2": "_is_avx2_supported",
    }
    found = {flag for flag, name in asked.items() if getattr(torch.cpu, name, lambda: False)()}
    # A tile unit without bf16 products was never sold.
    return frozenset(found | ({"amx_bf16"} if "amx_tile" in found else set()))


def usable_cores() -> int:
    """CPU cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> tuple[int, int]:
    """``(free, total)`` bytes of RAM, never more than the limit of the container around the process."""
    import psutil

    found = psutil.virtual_memory()
    free, total = int(found.available), int(found.total)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no cgroup v2, or the limit is the word "max"
        return free, total
    return min(free, max(0, limit - used)), min(total, limit)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if it does not exist."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else 0


def _existing(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if p.exists())


def _device_lines(kinds: tuple[str, ...]) -> tuple[str, ...]:
    lines = []
    if "cuda" in kinds:
        import torch

        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            lines.append(f"cuda:{index} {facts.name}, {facts.total_memory / 1e9:.0f} GB")
    if "mps" in kinds:
        lines.append("mps (Apple GPU)")
    return (*lines, f"cpu {_cpu_name()}, {usable_cores()} cores")


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def _four_bit(kind: str) -> str:
    present = version_of("bitsandbytes") is not None
    if kind == "cuda":
        return "NF4 through bitsandbytes" if present else "needs bitsandbytes"
    if kind == "cpu":
        exact = "NF4 values, de-quantised once to the compute type"
        return f"{exact}; 4-bit layers on request" if present else f"needs bitsandbytes ({exact})"
    return "not available on this device"
