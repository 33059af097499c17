"""How many tokens a microbatch may hold, from the memory that is free; and what counts as running out of it."""

from __future__ import annotations

from typing import Any

import psutil
import torch

_CPU_CEILING = 2048  # measured: larger packs are no faster on a CPU and cost memory
_CUDA_CEILING = 32768


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Activations kept for backward per token: about 9 hidden-sized and 4 MLP-sized values per layer, plus attention weights of short rows."""
    width = 9 * config.hidden_size + 4 * (
        getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    )
    size = 4 if dtype == torch.float32 else 2
    return int(config.num_hidden_layers * width * size * 1.25)


def default_max_tokens(config: Any, dtype: torch.dtype, device: torch.device) -> int:
    """Token budget of a training microbatch: at most half of the free memory, between 256 and a per-device ceiling."""
    if device.type == "cuda":
        free, ceiling = torch.cuda.mem_get_info(device)[0], _CUDA_CEILING
    else:
        free, ceiling = psutil.virtual_memory().available, _CPU_CEILING
    return max(256, min(ceiling, int(free / 2 / bytes_per_token(config, dtype))))


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's out-of-memory error, or the CPU allocator's, which is a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def peak_memory(device: torch.device) -> int:
    """Peak bytes of this process: CUDA allocated, or the resident set on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
