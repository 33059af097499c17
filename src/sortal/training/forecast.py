"""How long training will take, said before the first step; and how long it took beside that.

The time follows from the number of tokens, the operations per token and this machine's rate of matrix products, and from the steps, the trained
parameters and the rate of memory that an update of these takes. Both rates are measured on the spot: a machine that is busy now gives a longer time.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

# Shares of the matrix product rate that steps reach: measured from 0.4 to 0.7 on CPUs; with a tile unit, whose products are so fast that
# what stands between them counts, from 0.15 to 0.5 (the former with another busy core); on GPUs small models wait for launches.
UTILISATION = {"cpu": (0.4, 0.7), "tiles": (0.15, 0.5), "cuda": (0.1, 0.45)}
# Bytes that an optimiser step moves for a trained parameter on a CPU: AdamW reads four numbers and writes three, clipping reads one twice and
# writes it, gradients are zeroed, summed and narrowed. On a GPU memory is so fast that only products count.
_UPDATE = 60
_WORTH_MEASURING = 5e11  # operations: some seconds of one CPU core, and measuring takes half a second
_WORTH_SAYING = 5.0  # seconds


@dataclass(frozen=True)
class Forecast:
    """The optimiser steps that are ahead of a run, without dev evaluations.

    tokens_per_epoch: real tokens, prompts included. seconds: likely; least and most: between which it should lie.
    cut: whether a time budget ends training before its steps do.
    """

    steps: int
    epochs: float
    tokens_per_epoch: int
    seconds: float
    least: float
    most: float
    tokens_per_second: float
    cut: bool = False

    @property
    def worth_saying(self) -> bool:
        """Whether anybody has to wait."""
        return self.seconds >= _WORTH_SAYING

    def line(self, what: str) -> str:
        """``preset fast: about 4 min, 3 to 5 (…)``; ``what`` names the run."""
        return (
            f"{what}: about {duration(self.seconds)} of training, {duration(self.least)} to {duration(self.most)} "
            f"({self.tokens_per_epoch:,} real tokens per epoch × {self.epochs:.3g} at about {self.tokens_per_second:,.0f} tokens/s on this machine, measured now; dev evaluations come on top)"
        )

    def beside(self, seconds: float, steps: int) -> dict[str, Any]:
        """For run.json: what was foreseen, and what ``steps`` steps then took; early stopping leaves some out."""
        share = 1.0 if self.cut else steps / self.steps
        return {
            "foreseen_steps": self.steps,
            "foreseen_seconds": round(self.seconds, 3),
            "least": round(self.least, 3),
            "most": round(self.most, 3),
            "used_steps": steps,
            "used_seconds": round(seconds, 3),
            "used_of_foreseen": round(seconds / (share * self.seconds), 3),
        }


def foresee(
    work: float,
    steps: int,
    epochs: float,
    tokens_per_epoch: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    trained: int = 0,
    at_most: float = math.inf,
) -> Forecast | None:
    """The time that ``work`` floating-point operations take here; None where they are too few to be worth measuring anything.

    Args:
        steps, epochs: that are ahead.
        trained: parameters that every step updates.
        at_most: seconds after which training ends anyway.
    """
    if work < _WORTH_MEASURING:
        return None
    times = seconds_of(
        work, matrix_flops(device, dtype), device, dtype, update_seconds(steps, trained, device)
    )
    rate = tokens_per_epoch * epochs / times[1]
    least, likely, most = (min(each, at_most) for each in times)
    return Forecast(steps, epochs, tokens_per_epoch, likely, least, most, rate, cut=likely < times[1])


def seconds_of(
    work: float, rate: float, device: torch.device, dtype: torch.dtype, updates: float = 0.0
) -> tuple[float, float, float]:
    """Least, likely and most seconds of ``work`` operations at ``rate`` matrix operations per second, and of ``updates``, seconds that they take on their own."""
    tiles = device.type == "cpu" and dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    low, high = UTILISATION["tiles" if tiles else device.type]
    products = work / rate
    return (
        products / high + updates / 1.5,
        products / math.sqrt(low * high) + updates,
        products / low + updates * 1.5,
    )


def computed_tokens(tokens: int, rows: int, batch_size: int, shared: int, room: int) -> int:
    """Tokens of an epoch: those of the texts, and those that every microbatch shares.

    Args:
        tokens: of all texts. room: tokens of a microbatch beside the ``shared`` ones.
    """
    per_step = tokens / max(rows, 1) * batch_size
    microbatches = math.ceil(per_step / max(room, 1)) * math.ceil(rows / batch_size)
    return tokens + microbatches * shared


def matrix_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of large matrix products, over half a second: what other work leaves."""
    size = 4096 if device.type == "cuda" else 1024
    a, b = (
        torch.ones(size, size, dtype=dtype, device=device),
        torch.ones(size, size, dtype=dtype, device=device),
    )
    float((a @ b)[0, 0])  # the first one sets things up
    products, began = 0, time.perf_counter()
    while True:
        float((a @ b)[0, 0])  # waits for the device
        products += 1
        if (took := time.perf_counter() - began) > 0.5:
            return 2 * size**3 * products / took


def update_seconds(steps: int, trained: int, device: torch.device) -> float:
    """What optimiser steps take on ``trained`` parameters, whatever tokens they have read."""
    return steps * trained * _UPDATE / memory_rate() if steps and trained and device.type == "cpu" else 0.0


def memory_rate() -> float:
    """Bytes per second of sums of two arrays beyond any cache, over a tenth of a second: what other work leaves."""
    a, b = torch.ones(1 << 24), torch.ones(1 << 24)
    sums, began = 0, time.perf_counter()
    while True:
        a.add_(b)  # reads two numbers and writes one
        sums += 1
        if (took := time.perf_counter() - began) > 0.1:
            return 3 * a.nbytes * sums / took


def duration(seconds: float) -> str:
    """``85 s``, ``12 min``, ``2.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
