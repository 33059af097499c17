"""CUDA graphs of microbatches: recorded once per size, replayed with other contents.

A small model's step is thousands of kernels of a few microseconds each, and launching one from Python takes longer than that: the GPU
waits for the CPU nine tenths of the time. A graph launches all of them at once. It fixes every shape, so a pack is filled up to a
size that is met again: with tokens of no example, and with places for examples whose loss counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone.packing import Pack, filled
from sortal.training.budget import is_out_of_memory
from sortal.training.objective import Classification

MOST_PARAMETERS = 1_000_000_000  # beyond, kernels last longer than their launches
_MOST_SIZES = 32


def round_up(tokens: int) -> int:
    """The next size that packs are filled up to: eight in every doubling, so at most an eighth more tokens."""
    step = max(64, 1 << max(tokens.bit_length() - 4, 0))
    return -(-tokens // step) * step


class StepGraphs:
    """Gradients of microbatches of one objective, by graphs where a size comes a second time.

    Args:
        parameters: trainable ones; from here on each has a gradient, which must be zeroed in place.
        most: the largest number of examples in a microbatch.
        say: told when graphs cannot be used after all.
    """

    def __init__(
        self,
        objective: Classification,
        parameters: Sequence[torch.nn.Parameter],
        most: int,
        say: Callable[[str], None],
    ) -> None:
        self.objective, self.most, self.say = objective, most, say
        self.parameters = list(parameters)
        self.longest = int(objective.lengths.max())
        self._seen: set[int] = set()
        self._graphs: dict[int, _Recorded] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._usable = True
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def backward(self, rows: npt.NDArray[np.int64], weight: float) -> torch.Tensor | None:
        """Add the gradients of ``weight`` · Σ losses, and return that sum; None when the caller has to do it step by step."""
        size = round_up(int(self.objective.lengths[rows].sum()))
        if not self._usable:
            return None
        if size not in self._graphs:
            # The first time kernel by kernel, which sets up what they need before they can be recorded.
            if size not in self._seen or len(self._graphs) == _MOST_SIZES:
                self._seen.add(size)
                return None
            recorded = self._record(rows, size)
            if recorded is None:
                return None
            self._graphs[size] = recorded
        return self._graphs[size].replay(self._pack(rows, size), self.objective.targets_of(rows), weight)

    def _record(self, rows: npt.NDArray[np.int64], size: int) -> _Recorded | None:
        device = self.objective.device
        targets = self.objective.targets_of(rows)
        places = torch.zeros((self.most, *targets.shape[1:]), dtype=targets.dtype, device=device)
        try:
            with _without_gradients(self.parameters):
                return _Recorded(
                    self.objective, self.parameters, self._pack(rows, size).to(device), places, self._pool
                )
        except RuntimeError as error:
            reason = "memory" if is_out_of_memory(error) else str(error).splitlines()[0]
            self.say(f"steps are not recorded as CUDA graphs ({reason}): the same results, more slowly")
            self._usable = False
            self._graphs.clear()
            torch.cuda.synchronize()
            return None

    def _pack(self, rows: npt.NDArray[np.int64], size: int) -> Pack:
        return filled([self.objective.texts[i] for i in rows], size, self.most, self.longest)


@contextmanager
def _without_gradients(parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Inside, parameters have no gradients, so that backward leaves its own in their place instead of adding each to one."""
    kept = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient


class _Recorded:
    """One graph with the tensors it reads and writes: the value and the gradients, which are then added to the parameters' all at once."""

    def __init__(
        self,
        objective: Classification,
        parameters: Sequence[torch.nn.Parameter],
        rows: Pack,
        targets: torch.Tensor,
        pool: Any,
    ) -> None:
        self.rows, self.targets = rows, targets
        self.weights = torch.zeros(len(targets), device=targets.device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            losses = objective.loss(objective.model(self.rows), self.targets)
            self.value = (losses * self.weights).sum()
            self.value.backward()
        self.value = self.value.detach()
        self.reached = [parameter for parameter in parameters if parameter.grad is not None]
        self.gradients = _gradients(self.reached)

    def replay(self, rows: Pack, targets: torch.Tensor, weight: float) -> torch.Tensor:
        for name in ("input_ids", "position_ids", "cu_seqlens", "last"):
            getattr(self.rows, name).copy_(getattr(rows, name))
        self.targets[: len(targets)].copy_(targets)
        self.weights.zero_()
        self.weights[: len(targets)] = weight
        self.graph.replay()
        torch._foreach_add_(_gradients(self.reached), self.gradients)
        return self.value.clone()


def _gradients(parameters: Sequence[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
