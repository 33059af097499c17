"""The state of every global random generator as tensors: torch (CPU, CUDA), numpy and Python."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from sortal.errors import CheckpointError

PREFIX = "rng/"


def rng_tensors() -> dict[str, torch.Tensor]:
    """``rng/torch`` and ``rng/cuda/<i>`` (uint8), ``rng/numpy`` and ``rng/python`` (int64).

    The two ``…_gauss`` entries (float64, 0 or 1 element) hold the second half of a pair of normal deviates
    that numpy and Python keep for the next call.
    """
    numpy_state = cast("tuple[str, Any, int, int, float]", np.random.get_state(legacy=True))
    _, numpy_keys, position, has_gauss, gauss = numpy_state
    _, python_keys, python_gauss = random.getstate()
    tensors = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*map(int, numpy_keys), position], dtype=torch.int64),
        "numpy_gauss": torch.tensor([gauss] if has_gauss else [], dtype=torch.float64),
        "python": torch.tensor(python_keys, dtype=torch.int64),
        "python_gauss": torch.tensor([] if python_gauss is None else [python_gauss], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        tensors |= {f"cuda/{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return {PREFIX + name: tensor for name, tensor in tensors.items()}


def restore_rng(tensors: Mapping[str, torch.Tensor]) -> None:
    """Set every generator to what `rng_tensors` saw; other entries and absent CUDA devices are passed over.

    Raises:
        CheckpointError: an entry is missing.
    """
    try:
        torch_state, numpy_state, numpy_gauss, python_state, python_gauss = (
            tensors[PREFIX + name] for name in ("torch", "numpy", "numpy_gauss", "python", "python_gauss")
        )
    except KeyError as error:
        raise CheckpointError(f"the checkpoint lacks the random state {error}", "start again") from None
    torch.set_rng_state(torch_state.cpu())
    *keys, position = numpy_state.tolist()
    gauss = numpy_gauss.tolist()
    np.random.set_state(
        ("MT19937", np.array(keys, dtype=np.uint32), position, len(gauss), gauss[0] if gauss else 0.0)
    )
    held = python_gauss.tolist()
    random.setstate((3, tuple(python_state.tolist()), held[0] if held else None))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            if (state := tensors.get(f"{PREFIX}cuda/{i}")) is not None:
                torch.cuda.set_rng_state(state.cpu(), i)
