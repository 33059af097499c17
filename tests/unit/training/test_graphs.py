from __future__ import annotations

import numpy as np
import pytest
import torch

from sortal.backbone.packing import filled, pack
from sortal.config import build_config
from sortal.methods.head_model import tunable
from sortal.training.graphs import most_tokens, round_up
from tiny_runs import classifier, random_rows, stir
from toy_loops import make_loop

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


def test_packs_that_keep_a_gpu_busy_are_not_worth_recording():
    from benchmarks.speed.sets import SHAPES
    from transformers import LlamaConfig, LlamaForCausalLM

    def most(**shape):
        with torch.device("meta"):
            return most_tokens(LlamaForCausalLM(LlamaConfig(**shape)).requires_grad_(False))

    large, small = most(**SHAPES["8b"]), most(**SHAPES["1b"])
    assert 2_500 < large < 3_500
    assert 9_000 < small < 12_000


@pytest.mark.parametrize("recorded", [True, False])
def test_recordings_are_given_up_before_microbatches_get_smaller(monkeypatch, recorded):
    loop = make_loop(batch_size=11, max_tokens=60)
    expected = loop._accumulate(np.arange(11))
    gradients = {name: p.grad.clone() for name, p in loop.parameters.items()}
    given_up = []

    class Recordings:
        def backward(self, rows, weight):
            return None

        def give_up(self, largest):
            given_up.append(largest)
            return recorded and len(given_up) == 1

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    failures = iter([True])

    def losses(rows, real=loop.objective.losses):
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(rows)

    monkeypatch.setattr(loop.objective, "losses", losses)
    loop.graphs = Recordings()
    assert torch.allclose(loop._accumulate(np.arange(11)), expected)
    for name, p in loop.parameters.items():
        torch.testing.assert_close(p.grad, gradients[name])
    assert given_up == [60]
    assert loop.progress.max_tokens == (60 if recorded else 27)
    assert loop.progress.out_of_memory_retries == (0 if recorded else 1)
