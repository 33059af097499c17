"""Which examples are in which step, and what that says about microbatches before the first one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sortal.config import ResolvedConfig
from sortal.training.distributed import Processes

Ints = npt.NDArray[np.int64]


def epoch_order(examples: int, seed: int, epoch: int) -> Ints:
    """A permutation of the examples that depends on seed and epoch only."""
    return np.random.default_rng([seed, epoch]).permutation(examples)


def most_tokens(lengths: Ints, config: ResolvedConfig, processes: Processes) -> int:
    """Tokens of the largest part of a step that this process will get, all epochs looked at.

    Args:
        lengths: tokens of every example, ``[n]``, at least one.
    """
    n, size = len(lengths), config.batch_size
    shares = -(-n // size) * size
    padded = np.append(np.asarray(lengths, np.int64), 0)  # the last step may be shorter
    most = 0
    for epoch in range(config.epochs):
        order = np.full(shares, n, np.int64)
        order[:n] = epoch_order(n, config.seed, epoch)
        mine = padded[order.reshape(-1, size)[:, processes.rank :: processes.world]]
        most = max(most, int(mine.sum(1).max()))
    return most or int(padded.max())
