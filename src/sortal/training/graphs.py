"""CUDA graphs of microbatches: recorded once per size, replayed with other contents.

A step of a small model, or of few tokens, is thousands of kernels of a few microseconds each, and launching one from Python takes
longer than that: the GPU waits for the CPU most of the time. A graph launches all of them at once. It fixes every shape, so a pack is
filled up to a size that is met again: with tokens of no example, and with places for examples whose loss counts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone.lora import decoder_layers, flops_per_token
from sortal.backbone.packing import Pack, filled
from sortal.training.budget import held_now, is_out_of_memory, peak_memory, untouched_memory
from sortal.training.objective import Classification

# Python launches the kernels of a layer in about 7 ms, backward included (measured beside an H100), which reaches some 400 TFLOP/s
# where it does not wait.
_LAUNCHES, _RATE = 7e-3, 4e14
_MOST_SIZES = 32


def most_tokens(model: torch.nn.Module) -> int:
    """The largest pack that is worth recording, since a larger one keeps a GPU busy: 3,000 tokens of a model of 8 billion parameters, any of one of 135 million."""
    return int(len(decoder_layers(model)) * _LAUNCHES * _RATE / max(flops_per_token(model), 1))


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
        tokens: larger packs are not recorded.
    """

    def __init__(
        self,
        objective: Classification,
        parameters: Sequence[torch.nn.Parameter],
        most: int,
        say: Callable[[str], None],
        tokens: int = sys.maxsize,
    ) -> None:
        self.objective, self.most, self.say, self.tokens = objective, most, say, tokens
        self.parameters = list(parameters)
        self.longest = int(objective.lengths.max())
        self._seen: set[int] = set()
        self._graphs: dict[int, _Recorded] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._usable = True
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._held = held_now(objective.device)

    def backward(self, rows: npt.NDArray[np.int64], weight: float) -> torch.Tensor | None:
        """Add the gradients of ``weight`` · Σ losses, and return that sum; None when the caller has to do it step by step."""
        size = round_up(int(self.objective.lengths[rows].sum()))
        if not self._usable or size > self.tokens:
            return None
        if size not in self._graphs:
            # The first time kernel by kernel, which sets up what they need before they can be recorded.
            if size not in self._seen or len(self._graphs) == _MOST_SIZES or not self._room():
                self._seen.add(size)
                return None
            recorded = self._record(rows, size)
            if recorded is None:
                return None
            self._graphs[size] = recorded
        return self._graphs[size].replay(self._pack(rows, size), self.objective.targets_of(rows), weight)

    def give_up(self, largest: int) -> bool:
        """Free what the recordings hold, for good; False where they hold nothing, or packs of ``largest`` tokens are recorded, too."""
        if not self._graphs or largest <= self.tokens:
            return False
        self._drop("they left too little memory for larger packs")
        return True

    def _room(self) -> bool:
        """Whether a recording, which can take as much as the largest step so far, leaves the others what they have."""
        device = self.objective.device
        return untouched_memory(device) > peak_memory(device) - self._held

    def _drop(self, reason: str) -> None:
        self.say(f"steps are not recorded as CUDA graphs ({reason}): the same results, more slowly")
        self._usable = False
        self._graphs.clear()

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
            self._drop("memory" if is_out_of_memory(error) else str(error).splitlines()[0])
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
