from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.backbone import native_tiles
from sortal.backbone import tree_attention as module
from sortal.backbone.tree_attention import _PromptAndOwn, tree_attention
from sortal.backbone.trees import Memory, TreeRow, tree_pack
from tree_rows import PROMPT, forests, tree_row


def _qkv(tokens, heads, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(tokens, heads[0], 4), (tokens, heads[1], 4), (tokens, heads[1], 4)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def _dense(q, k, v, seen, positions, scale, window, softcap):
    """Attention over all tokens at once with an explicit mask ``seen [tokens, tokens]``."""
    share = q.shape[1] // k.shape[1]
    keys, values = (t.transpose(0, 1).repeat_interleave(share, 0) for t in (k, v))
    logits = q.transpose(0, 1) @ keys.transpose(1, 2) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    distance = positions[:, None] - positions[None, :]
    if window is not None:
        seen = seen & (distance < window)
    weights = logits.masked_fill(~seen, float("-inf")).softmax(-1)
    return (weights @ values).transpose(0, 1)


@settings(max_examples=60, deadline=None)
@given(
    forests,
    st.integers(0, 9),
    st.sampled_from([(4, 4), (4, 2), (3, 1)]),
    st.sampled_from([None, 1, 3, 50]),
    st.sampled_from([None, 0.7, 5.0]),
    st.integers(0, 99),
)
def test_outputs_and_gradients_equal_dense_attention(shapes, prompt, heads, window, softcap, seed):
    rows = [tree_row(shape) for shape in shapes]
    pack = tree_pack(rows, PROMPT[:prompt])
    seen = torch.zeros(pack.tokens, pack.tokens, dtype=torch.bool)
    seen[:prompt, :prompt] = torch.ones(prompt, prompt).tril().bool()
    seen[prompt:, :prompt] = True
    for row, (start, end) in zip(rows, pairwise(pack.starts.tolist()), strict=True):
        seen[start:end, start:end] = torch.from_numpy(row.visible)
    ours, theirs = ([t.requires_grad_() for t in _qkv(pack.tokens, heads, seed)] for _ in range(2))
    found = tree_attention(*ours, pack, layer=0, scale=0.3, window=window, softcap=softcap)
    expected = _dense(*theirs, seen, pack.position_ids[0], 0.3, window, softcap)
    # Of the prompt's rectangle the weights are fp32 whatever the dtype.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found.backward(direction)
    expected.backward(direction)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("window", [None, 4])
def test_keys_in_memory_equal_keys_in_the_pack(window, softcap):
    """Outputs and gradients of three packs (prompt, trunks, branches of unequal size) against one of everything."""
    trunks, branches = (5, 9), ([4, 4, 6, 5], [8, 9])  # parents of the branches' tokens
    whole = [tree_row([*range(-1, t - 1), *b]) for t, b in zip(trunks, branches, strict=True)]
    one, p = tree_pack(whole, PROMPT), len(PROMPT)
    ours, theirs = ([t.requires_grad_() for t in _qkv(one.tokens, (4, 2), 3)] for _ in range(2))
    settings_ = {"layer": 0, "scale": 0.3, "window": window, "softcap": softcap}
    expected = tree_attention(*theirs, one, **settings_)

    def attend(rows, prompt, memory, places):
        pack = tree_pack(rows, prompt, memory, max_groups=1)
        return pack, tree_attention(*(t[places] for t in ours), pack, **settings_)

    memory = Memory()
    _, of_prompt = attend([], PROMPT, memory, np.arange(p))
    memory.prompt_tokens = p
    memory = memory.with_prompt_only(grow=True)
    borders = list(pairwise(one.starts))
    first = np.concatenate(
        [np.arange(start, start + t) for (start, _), t in zip(borders, trunks, strict=True)]
    )
    later = np.concatenate(
        [np.arange(start + t, end) for (start, end), t in zip(borders, trunks, strict=True)]
    )
    rows = [TreeRow(row.ids[:t]) for row, t in zip(whole, trunks, strict=True)]
    pack, of_trunks = attend(rows, (), memory, first)
    memory.positions = pack.position_ids[0]
    rows = [
        TreeRow(row.ids[t:], row.depth[t:], row.visible[t:], kept)
        for row, t, kept in zip(whole, trunks, (np.arange(5), 5 + np.arange(9)), strict=True)
    ]
    _, of_branches = attend(rows, (), memory, later)
    found = torch.cat([of_prompt, of_trunks, of_branches])
    expected = expected[[*range(p), *first, *later]]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found.backward(direction)
    expected.backward(direction)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("softcap", [None, 0.8])
@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
@pytest.mark.parametrize("hidden", [False, True], ids=["open", "hidden"])
def test_the_written_gradient_is_the_numeric_one(hidden, far, softcap, padded):
    heads, rows, share, width, keys, p, dim = 2, 2, 2, 3, 4, 3, 2
    cells = torch.tensor([0, 1, 2, 4]) if padded else None
    n = rows * width if cells is None else len(cells)
    generator = torch.Generator().manual_seed(4)
    shapes = [(heads, n, share, dim), (heads, p, dim), (heads, p, dim)]
    shapes += [(heads * rows, keys, dim)] * 2
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    mask = torch.zeros(rows, width, 1, keys, dtype=torch.bool)
    if hidden:
        mask = torch.rand(mask.shape, generator=generator) < 0.5
        mask[..., 0] = False
    distant = torch.rand(n, 1, p, generator=generator) < 0.5 if far else None
    assert torch.autograd.gradcheck(lambda *t: _PromptAndOwn.apply(*t, mask, distant, softcap, cells), inputs)


def _in_tiles(q, k, v, pack):
    """Attention that no rectangle has answered."""
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_group", None)
        return tree_attention(q, k, v, pack, layer=0, scale=0.3, window=None, softcap=None)


@pytest.fixture(scope="module")
def tiles():
    if not native_tiles.ready(torch.zeros(1, 1, 32, dtype=torch.bfloat16)):
        pytest.skip("no compiled attention in tiles on this machine")


def _bf16(tokens, heads, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(tokens, n, dim) for n in (heads[0], heads[1], heads[1])]
    return [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]


@settings(max_examples=40, deadline=None)
@given(
    forests,
    st.lists(st.sampled_from([1, 15, 33, 70]), max_size=3),  # chains of less and more than a block
    st.sampled_from([1, 13, 32, 45]),
    st.sampled_from([(4, 4), (9, 3), (6, 1)]),
    st.sampled_from([32, 64, 96]),
    st.integers(0, 99),
)
def test_tiles_give_what_dense_attention_gives(tiles, shapes, chains, prompt, heads, dim, seed):
    rows = [*(tree_row(shape) for shape in shapes), *(TreeRow(np.full(n, 5)) for n in chains)]
    pack = tree_pack(rows, np.resize(PROMPT, prompt))
    seen = torch.zeros(pack.tokens, pack.tokens, dtype=torch.bool)
    seen[:prompt, :prompt] = torch.ones(prompt, prompt).tril().bool()
    seen[prompt:, :prompt] = True
    for row, (start, end) in zip(rows, pairwise(pack.starts.tolist()), strict=True):
        own = np.tri(end - start, dtype=bool) if row.visible is None else row.visible
        seen[start:end, start:end] = torch.from_numpy(own)
    states = _bf16(pack.tokens, heads, dim, seed)
    expected = _dense(*(t.double() for t in states), seen, pack.position_ids[0], 0.3, None, None)
    torch.testing.assert_close(_in_tiles(*states, pack).double(), expected, rtol=2e-2, atol=3e-2)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 40) | st.sampled_from([70, 130]), min_size=1, max_size=12),
    st.sampled_from([1, 13, 32, 45]),
    st.sampled_from([(4, 4), (9, 3), (6, 1)]),
    st.sampled_from([32, 64, 96]),
    st.integers(0, 99),
)
def test_gradients_of_tiles_are_as_near_to_the_exact_ones_as_torchs(tiles, sizes, prompt, heads, dim, seed):
    pack = tree_pack([TreeRow(np.full(n, 5)) for n in sizes], np.resize(PROMPT, prompt))
    states = _bf16(pack.tokens, heads, dim, seed)
    direction = _bf16(pack.tokens, heads, dim, seed + 1)[0]

    def gradients(dtype, attention):
        own = [t.to(dtype).requires_grad_() for t in states]
        with pytest.MonkeyPatch.context() as patch:
            if attention == "tiles":
                patch.setattr(module, "_group", None)
            else:
                patch.setattr(native_tiles, "ready", lambda *t: False)
            out = tree_attention(*own, pack, layer=0, scale=0.3, window=None, softcap=None)
        out.backward(direction.to(dtype))
        return [out.detach(), *(t.grad for t in own)]

    exact = gradients(torch.float64, "rectangles")
    plain, ours = gradients(torch.bfloat16, "rectangles"), gradients(torch.bfloat16, "tiles")
    for found, other, expected in zip(ours, plain, exact, strict=True):
        error, theirs = ((t.double() - expected).abs().max() for t in (found, other))
        assert error <= 1.5 * theirs + 2**-7 * expected.abs().max()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if threads == 1 else 1)
        assert all(map(torch.equal, ours, gradients(torch.bfloat16, "tiles"))), (
            "the same bits with any threads"
        )
    finally:
        torch.set_num_threads(threads)


def test_tiles_see_chains_without_masks_and_what_memory_keeps(tiles):
    """A prompt, trunks of very different lengths, then their branches, each in its own pack, against one pack of everything."""
    trunks, branches = (5, 80), ([4, 4, 6, 5], [79, *range(80, 119)])
    whole = [tree_row([*range(-1, t - 1), *b]) for t, b in zip(trunks, branches, strict=True)]
    prompt = np.resize(PROMPT, 50)
    one, p = tree_pack(whole, prompt), len(prompt)
    states = _bf16(one.tokens, (9, 3), 64, 3)
    expected = _in_tiles(*states, one)
    memory, borders = Memory(), list(pairwise(one.starts))
    pack = tree_pack([], prompt, memory)
    torch.testing.assert_close(_in_tiles(*(t[:p] for t in states), pack), expected[:p], rtol=0, atol=0)
    memory.prompt_tokens = p
    memory = memory.with_prompt_only(grow=True)
    places = [np.arange(start, start + t) for (start, _), t in zip(borders, trunks, strict=True)]
    pack = tree_pack([TreeRow(row.ids[:t]) for row, t in zip(whole, trunks, strict=True)], (), memory)
    assert {group.visible for group in pack.groups} == {None}
    first = np.concatenate(places)
    found = _in_tiles(*(t[first] for t in states), pack)
    torch.testing.assert_close(found, expected[first], rtol=2e-2, atol=2e-2)
    memory.positions = pack.position_ids[0]
    rows = [
        TreeRow(row.ids[t:], row.depth[t:], row.visible[t:], kept)
        for row, t, kept in zip(whole, trunks, (np.arange(5), 5 + np.arange(80)), strict=True)
    ]
    places = [np.arange(start + t, end) for (start, end), t in zip(borders, trunks, strict=True)]
    later = np.concatenate(places)
    found = _in_tiles(*(t[later] for t in states), tree_pack(rows, (), memory, max_groups=1))
    torch.testing.assert_close(found, expected[later], rtol=2e-2, atol=2e-2)
