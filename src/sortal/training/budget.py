"""How many tokens a microbatch may hold, from the memory that is free; and what counts as running out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from sortal.backbone.environment import cpu_flags
from sortal.training.step_memory import StepMemory

_CPU_CEILING = 2048  # measured: larger packs are no faster on a CPU and cost memory
_TILE_CEILING = 4096  # with a tile unit what a microbatch costs by itself shows: Reuters' steps are 1.1 times as fast as with 2,048
_CUDA_CEILING = 32768
_LEAST = 256
_ENOUGH = 1024  # tokens of a microbatch: fewer leave a device idle, or spend their time on de-quantising
CHECKPOINTING = {"auto": None, "always": True, "never": False}  # what a setting asks for
# What torch's matrix library and the allocator keep beside tensors on a CPU in bf16: 0.34 GB at the end of 556 steps of a head.
_CPU_LIBRARIES = 350_000_000
# cuBLAS takes 32 MiB for each thread that multiplies, torch's default on Hopper, less on others: one runs forward, another backward.
_CUDA_WORKSPACES = 2 * 32 * 2**20
_SHARE = 0.9  # of the free memory; the rest is for what allocators lose


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Activations kept for backward per token: about 9 hidden-sized and 4 MLP-sized values per layer, plus attention weights of short rows."""
    width = 9 * config.hidden_size + 4 * (
        getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    )
    size = 4 if dtype == torch.float32 else 2
    return int(config.num_hidden_layers * width * size * 1.25)


def default_max_tokens(config: Any, dtype: torch.dtype, device: torch.device) -> int:
    """Token budget of a forward, and where nothing better is known of a microbatch, by a rule of thumb: at most half of the free memory, between 256 and a per-device ceiling.

    On a CPU states of 2,048 tokens stay nearer: with a tile unit 128 texts of Reuters take 1/1.3 of the time of forwards of 4,096.
    """
    most = _CPU_CEILING if device.type == "cpu" else _CUDA_CEILING
    return max(_LEAST, min(most, int(free_memory(device) / 2 / bytes_per_token(config, dtype))))


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's out-of-memory error, or the CPU allocator's, which is a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def peak_memory(device: torch.device) -> int:
    """Peak bytes of this process: CUDA allocated, or the resident set on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _resident("RUSAGE_SELF")


def peak_of_children() -> int:
    """Peak resident bytes of the largest process that this one has started and seen end."""
    return _resident("RUSAGE_CHILDREN")


def _resident(whose: str) -> int:
    import resource
    import sys

    peak = resource.getrusage(getattr(resource, whose)).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


@dataclass(frozen=True)
class StepBudget:
    """What a microbatch may hold.

    Attributes:
        max_tokens: of its texts and the prompt they share.
        checkpointing: whether layers keep their input only and are computed again in backward.
        peak_bytes: what the process (CPU) or the device (CUDA) will hold at its peak; None where nobody estimated it.
    """

    max_tokens: int
    checkpointing: bool = False
    peak_bytes: int | None = None


def choose_budget(
    plain: StepMemory,
    checkpointed: Callable[[], StepMemory],
    *,
    free: int,
    ceiling: int,
    longest: int,
    prompt: int = 0,
    asked: int | None = None,
    checkpointing: bool | None = None,
) -> tuple[int, StepMemory | None]:
    """Tokens of a microbatch, its prompt's included, and the memory of a step with checkpointing where that is needed, else None.

    Computing every layer twice costs a third of the time, small microbatches cost less until they are very small: checkpointing is for
    what would not fit otherwise.

    Args:
        free: bytes for a step.
        longest: tokens of the longest text.
        asked: the number of tokens that the user wants; they have to fit, if need be by checkpointing.
        checkpointing: what the user wants; None to choose.
    """
    room = free * _SHARE
    enough = asked - prompt if asked else max(_ENOUGH, longest)
    fitting = plain.tokens_within(room, longest, prompt)
    if checkpointing is None:
        checkpointing = fitting < enough
    memory = checkpointed() if checkpointing else None
    if memory is not None:
        fitting = memory.tokens_within(room, longest, prompt)
    return asked or max(_LEAST, min(ceiling, fitting + prompt)), memory


def kept_by_libraries(device: torch.device, dtype: torch.dtype) -> int:
    """Bytes that libraries come to keep beside a step's tensors: their workspaces count as allocated."""
    if device.type == "cuda":
        return _CUDA_WORKSPACES
    return _CPU_LIBRARIES if dtype == torch.bfloat16 else 0


def held_now(device: torch.device) -> int:
    """Bytes of this process: allocated on a CUDA device, or resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def free_memory(device: torch.device) -> int:
    """Bytes that this process could still take."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # What torch's allocator keeps for itself, after loading and quantising a good deal, it gives to the next tensors.
        kept, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
        allowed = total * torch.cuda.get_per_process_memory_fraction(
            device.index
        )  # unlike the others it refuses "cuda"
        return max(0, int(min(free + kept, allowed) - used))
    return int(psutil.virtual_memory().available)


def untouched_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that this process could take beside all that torch's allocator has, in use or kept."""
    free, total = torch.cuda.mem_get_info(device)
    allowed = int(total * torch.cuda.get_per_process_memory_fraction(device.index))
    return min(free, allowed - torch.cuda.memory_reserved(device))


def ceiling(device: torch.device) -> int:
    """Tokens beyond which larger microbatches are no faster."""
    if device.type == "cuda":
        return _CUDA_CEILING
    return _TILE_CEILING if "amx_bf16" in cpu_flags() else _CPU_CEILING
