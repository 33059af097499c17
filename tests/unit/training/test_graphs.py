from __future__ import annotations

import pytest
import torch

from sortal.backbone.packing import filled, pack
from sortal.config import build_config
from sortal.methods.head_model import tunable
from sortal.training.graphs import round_up
from tiny_runs import classifier, random_rows, stir

SEQUENCES = random_rows(5, 9, 1, 7)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize(("tokens", "examples"), [(22, 4), (64, 4), (64, 9)])
def test_what_fills_a_pack_up_changes_no_examples_logits_and_no_gradient(tiny, pooling, tokens, examples):
    model = stir(tunable(classifier(tiny), build_config({}), pooling, skip=2))
    found = []
    for rows in (pack(SEQUENCES), filled(SEQUENCES, tokens, examples, longest=9)):
        model.zero_grad()
        logits = model(rows)
        logits[: len(SEQUENCES)].square().sum().backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append((logits[: len(SEQUENCES)].detach(), torch.cat(gradients), len(logits)))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-4, atol=1e-5)
    assert found[1][2] == examples


def test_packs_of_a_size_have_equal_shapes():
    shapes = set()
    for sequences in (SEQUENCES, random_rows(9, 9, 9, 9, 9, 9), random_rows(1)):
        rows = filled(sequences, 64, 6, longest=9)
        assert rows.cu_seqlens.diff().min() >= 0
        assert rows.cu_seqlens[-1] == rows.tokens == 64
        assert rows.cu_seqlens.diff().max() <= rows.max_length == 9
        shapes.add((rows.input_ids.shape, rows.position_ids.shape, rows.cu_seqlens.shape, rows.last.shape))
    assert len(shapes) == 1


@pytest.mark.parametrize("tokens", [1, 64, 65, 511, 513, 800, 1025, 4097, 30_000])
def test_sizes_are_few_and_little_is_wasted(tokens):
    size = round_up(tokens)
    assert tokens <= size <= max(64, tokens + 64, 1.13 * tokens)
    assert round_up(size) == size
    assert len({round_up(n) for n in range(4096, 8193)}) <= 9
