"""The benchmark of answers: what it counts, and that every kernel multiplies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks import answers


def found(best, gold, seconds=2.0):
    probabilities = np.full((len(best), 3), 0.1)
    probabilities[np.arange(len(best)), best] = 0.8
    return {"probabilities": probabilities, "right": np.array(best) == gold, "seconds": seconds}


def test_rows_are_counted_against_the_first_way():
    gold = np.array([0, 1, 2, 0])
    first, other = answers.compared({"a": found([0, 1, 1, 1], gold), "b": found([0, 2, 2, 0], gold, 1.0)})
    assert (first["other_labels"], first["only_here"], first["only_there"]) == (0, 0, 0)
    assert (other["other_labels"], other["only_here"], other["only_there"]) == (3, 2, 1)
    assert (first["accuracy"], other["accuracy"]) == (0.5, 0.75)
    assert other["mean_difference"] == pytest.approx(0.7 * 3 / 4)
    assert other["texts_per_cpu_second"] == 4.0
    shown = answers.page(
        {
            "command": "c",
            "threads": 1,
            "data": "set/test.csv",
            "answers": [first, other],
            "products": {8: {"bf16": 1.25, "int8": 0.5}},
        }
    )
    assert "| b | 4 | 0.7500 | 3 | 2 | 1 | 0.5250 | 4.0 |" in shown
    assert "| 8 | 1.2 | 0.5 |" in shown


@pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU has no VNNI")
def test_every_kernel_makes_the_same_number_of_products(monkeypatch):
    monkeypatch.setattr(answers, "LAYERS", 1)
    with torch.inference_mode():
        made = {name: [call().shape[-2:] for call in calls] for name, calls in answers.kernels(4)}
    assert len(made) == 5
    expected = [(4, rows) for rows, _ in answers.SHAPES]
    assert all([tuple(shape) for shape in shapes] == expected for shapes in made.values())
