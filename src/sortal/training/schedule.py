"""The learning rate as a function of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math


def factor(step: int, total: int, warmup: int, kind: str) -> float:
    """Multiplier of the peak learning rate at optimiser step ``step`` (0-based) of ``total``.

    Rises linearly over ``warmup`` steps, then stays (``constant``) or falls to zero (``linear``, ``cosine``).
    """
    if step < warmup:
        return (step + 1) / warmup
    if kind == "constant":
        return 1.0
    progress = (step - warmup) / max(total - warmup, 1)
    return 1.0 - progress if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
