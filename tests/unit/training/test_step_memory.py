from __future__ import annotations

import pytest
import torch

from sortal.training.step_memory import ALONE, BELOW_A_PROMPT, Shape, StepMemory, rehearse


def made_of(per_layer, depths=None):
    """A step that holds what a formula says, for a network of any depth."""

    def make(layers):
        if depths is not None:
            depths.append(layers)

        def step(shape):
            return torch.empty(1000 + layers * per_layer(shape), dtype=torch.uint8)

        return step

    return make


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 40])
def test_coefficients_hold_for_sizes_and_depths_that_were_not_tried(layers):
    depths = []
    found = rehearse(made_of(lambda s: 70 * s.tokens + 3 * s.tokens * s.width, depths), layers)
    shape = Shape(100, 100)
    assert found.at(shape) == pytest.approx(1000 + layers * (70 * 10_000 + 3 * 1_000_000), rel=1e-6)
    assert max(depths) <= 4


def test_a_prompt_has_cells_of_its_own():
    found = rehearse(
        made_of(
            lambda s: (
                70 * (s.tokens + s.prompt) + 2 * s.prompt**2 + 5 * s.tokens * s.prompt + s.tokens * s.width
            )
        ),
        10,
        BELOW_A_PROMPT,
    )
    expected = 1000 + 10 * (70 * 700 + 2 * 90_000 + 5 * 400 * 300 + 400 * 20)
    assert found.at(Shape(20, 20, 300)) == pytest.approx(expected, rel=1e-6)


def test_tokens_within_a_number_of_bytes_are_those_that_take_them():
    memory = StepMemory((1000.0, 50.0, 2.0, 3.0, 4.0))
    for prompt in (0, 30):
        tokens = memory.tokens_within(1e6, 20, prompt)
        assert memory.at(Shape(tokens // 20, 20, prompt)) <= 1e6
        assert memory.at(Shape(tokens // 20 + 1, 20, prompt)) > 1e6
        assert memory.of_tokens(tokens, 20, 0) <= 1e6
        assert memory.of_tokens(20 * 7 + prompt, 20, prompt) == memory.at(Shape(7, 20, prompt))
    assert memory.tokens_within(500, 20) == 0


def test_shapes_tell_the_features_apart():
    for shapes, features in ((ALONE, 3), (BELOW_A_PROMPT, 5)):
        rows = torch.tensor([shape.features for shape in shapes], dtype=torch.float64)
        assert torch.linalg.matrix_rank(rows) == features
