from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sortal.backbone import rectangles
from sortal.backbone.attention import packed_attention
from sortal.backbone.packing import pack

shapes = st.tuples(
    st.lists(st.integers(1, 17), min_size=1, max_size=7),
    st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    st.sampled_from([4, 8]),
    st.sampled_from([None, 1, 3, 50]),
    st.sampled_from([None, 5.0]),
)


def _inputs(sizes, heads, dim, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(sizes))
    made = [torch.randn(1, h, sum(sizes), dim, generator=generator) for h in (heads[0], heads[1], heads[1])]
    return [t.to(dtype).requires_grad_() for t in made]


def _reference(q, k, v, sizes, window, softcap, scale, causal=True):
    """One example at a time, with an explicit mask."""
    share, pieces, start = q.shape[1] // k.shape[1], [], 0
    for n in sizes:
        part = slice(start, start + n)
        keys, values = (t[0, :, part].repeat_interleave(share, 0) for t in (k, v))
        logits = q[0, :, part] @ keys.transpose(1, 2) * scale
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        distance = torch.arange(n)[:, None] - torch.arange(n)[None, :]
        hidden = distance.abs() >= (window or n)
        if causal:
            hidden |= distance < 0
        weights = logits.masked_fill(hidden, float("-inf")).softmax(-1)
        pieces.append((weights @ values).transpose(0, 1))
        start += n
    return torch.cat(pieces)[None]


@settings(max_examples=40, deadline=None)
@given(shapes, st.booleans())
def test_outputs_and_gradients_equal_one_example_at_a_time(shape, causal):
    """F10, at the level of the attention function: borders, causality, window, grouped heads, soft cap."""
    sizes, heads, dim, window, softcap = shape
    packed = pack([[0] * n for n in sizes], causal=causal)
    ours, theirs = _inputs(sizes, heads, dim), _inputs(sizes, heads, dim)
    out, weights = packed_attention(
        nn.Module(), *ours, None, scaling=0.3, sliding_window=window, softcap=softcap, sortal_pack=packed
    )
    expected = _reference(*theirs, sizes, window, softcap, 0.3, causal)
    assert weights is None
    assert out.shape == (1, sum(sizes), heads[0], dim)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(direction)
    expected.backward(direction)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 3, 100])
def test_rows_longer_than_a_block_equal_one_example_at_a_time(causal, window):
    sizes = [64, 65, 150, 300, 1]
    packed = pack([[0] * n for n in sizes], causal=causal)
    ours, theirs = _inputs(sizes, (4, 2), 8), _inputs(sizes, (4, 2), 8)
    out, _ = packed_attention(nn.Module(), *ours, None, sliding_window=window, sortal_pack=packed)
    expected = _reference(*theirs, sizes, window, None, 8**-0.5, causal)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(direction)
    expected.backward(direction)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 16), st.none() | st.integers(1, 50), st.booleans())
def test_blocks_hold_every_key_a_query_may_see_and_little_else(width, size, window, causal):
    cells = torch.zeros(width, width, dtype=torch.int64)
    for start, end, first, last in rectangles.blocks(width, size, window, causal):
        cells[start:end, first:last] += 1
    distance = torch.arange(width)[:, None] - torch.arange(width)[None, :]
    seen = distance.abs() < (window or width)
    if causal:
        seen &= distance >= 0
    assert cells.max() == 1
    assert (cells[seen] == 1).all()
    # A query's cells beyond what it sees are those that others of its block see.
    assert (distance[(cells == 1) & ~seen].abs() < size + (window or 0)).all()


def test_the_default_scale_is_one_over_root_of_the_head_size():
    q, k, v = _inputs([6], (2, 2), 8)
    out, _ = packed_attention(nn.Module(), q, k, v, None, sortal_pack=pack([[0] * 6]))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_bf16_is_close_to_fp32():
    sizes = [3, 30, 11]
    packed = pack([[0] * n for n in sizes])
    q, k, v = _inputs(sizes, (4, 2), 8, torch.bfloat16)
    out, _ = packed_attention(nn.Module(), q, k, v, None, sortal_pack=packed)
    exact, _ = packed_attention(nn.Module(), q.float(), k.float(), v.float(), None, sortal_pack=packed)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).norm() < 0.02 * exact.norm()


def test_another_example_in_the_pack_changes_nothing():
    q, k, v = _inputs([4, 6], (4, 2), 8)
    together, _ = packed_attention(nn.Module(), q, k, v, None, sortal_pack=pack([[0] * 4, [0] * 6]))
    alone, _ = packed_attention(
        nn.Module(), *(t[:, :, 4:] for t in (q, k, v)), None, sortal_pack=pack([[0] * 6])
    )
    torch.testing.assert_close(together[:, 4:], alone, rtol=1e-5, atol=1e-6)


def test_without_a_pack_it_refuses_instead_of_leaking():
    with pytest.raises(RuntimeError, match="without a pack"):
        packed_attention(nn.Module(), *_inputs([3], (2, 2), 4), None)


def test_attention_dropout_is_refused():
    with pytest.raises(RuntimeError, match="dropout"):
        packed_attention(
            nn.Module(), *_inputs([3], (2, 2), 4), None, dropout=0.1, sortal_pack=pack([[0] * 3])
        )
