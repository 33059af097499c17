"""How much memory a microbatch takes at its peak, measured on a few tokens in two or three layers of the real width.

What a step holds grows linearly with the number of layers and with a handful of sizes of the microbatch, so a rehearsal on almost
nothing gives the coefficients for any size, on any machine and for a model whose weights were never loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sortal.training.held_bytes import HeldBytes


@dataclass(frozen=True)
class Shape:
    """A microbatch: ``rows`` texts of ``width`` tokens below a shared prompt of ``prompt`` tokens."""

    rows: int
    width: int
    prompt: int = 0

    @property
    def tokens(self) -> int:
        """Of the texts."""
        return self.rows * self.width

    @property
    def features(self) -> tuple[float, ...]:
        """Of `features`."""
        return features(self.tokens, self.width, self.prompt)


def features(tokens: int, width: int, prompt: int) -> tuple[float, ...]:
    """What memory is linear in: a constant, tokens, and the cells of attention inside texts, inside the prompt and between them."""
    return (1.0, tokens + prompt, tokens * width, prompt * prompt, tokens * prompt)


# Enough different ones to tell the features apart, of the size of real ones: what decides the peak of a tiny one is something else.
ALONE = (Shape(8, 32), Shape(16, 32), Shape(8, 64))
BELOW_A_PROMPT = (
    Shape(8, 32, 64),
    Shape(16, 32, 64),
    Shape(8, 64, 64),
    Shape(8, 32, 256),
    Shape(16, 32, 256),
)
Step = Callable[[Shape], None]
_DEEP = 4


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a microbatch at its peak: activations, gradients and what kernels need, beside weights and optimiser state."""

    coefficients: tuple[float, ...]

    def at(self, shape: Shape) -> int:
        """Bytes of one microbatch."""
        return int(np.dot(self.coefficients, shape.features))

    def of_tokens(self, tokens: int, width: int, prompt: int = 0) -> int:
        """Bytes of a microbatch of so many tokens, its prompt's included, whose texts have up to ``width`` of them."""
        own = max(tokens - prompt, 0)
        return int(np.dot(self.coefficients, features(own, width, prompt)))

    def tokens_within(self, held: float, width: int, prompt: int = 0) -> int:
        """The most tokens of texts of ``width`` tokens that ``held`` bytes allow; 0 when the prompt alone is too much."""
        constant, token, inside, in_prompt, between = self.coefficients
        left = held - constant - token * prompt - in_prompt * prompt**2
        return max(0, int(left / (token + inside * width + between * prompt)))


def rehearse(make: Callable[[int], Step], layers: int, shapes: tuple[Shape, ...] = ALONE) -> StepMemory:
    """Coefficients of a network of ``layers`` layers.

    Args:
        make: a network of so many layers; returns its forward and backward of one microbatch.
        shapes: that tell apart the features that occur.
    """
    # The last layer is computed in part and the first has no gradient to pass on: what one more layer takes shows from there on.
    depths = (layers,) if layers < _DEEP else (_DEEP - 1, _DEEP)
    peaks = []
    for depth in depths:
        step = make(depth)
        with HeldBytes():
            step(shapes[0])  # the gradients that a step adds to are there from now on
        peaks.append(np.array([_peak(step, shape) for shape in shapes], float))
    found = peaks[-1] + (layers - depths[-1]) * (peaks[-1] - peaks[0])
    matrix = np.array([shape.features for shape in shapes])
    used = np.ptp(matrix, axis=0) > 0
    used[0] = True
    coefficients = np.zeros(matrix.shape[1])
    coefficients[used] = np.linalg.lstsq(matrix[:, used], found, rcond=None)[0]
    return StepMemory(tuple(coefficients.tolist()))


def _peak(step: Step, shape: Shape) -> int:
    held = HeldBytes()
    with held:
        step(shape)
    return held.peak
