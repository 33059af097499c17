from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaModel

from sortal.backbone import attention, fused, int8, native, native_tiles, rotary
from sortal.backbone.attention import packed_attention
from sortal.backbone.lora import fuse
from sortal.backbone.native_attention import CausalAttention
from sortal.backbone.packing import Prefix, pack

needs_compiler = pytest.mark.skipif(
    not native.state().startswith("compiled"), reason=f"no compiled kernels: {native.state()}"
)
pytestmark = needs_compiler


@pytest.fixture(autouse=True, scope="module", params=["this processor", "any processor"])
def library(request, tmp_path_factory):
    """What was built for this machine, and what a processor without AVX-512 would run."""
    if request.param == "this processor":
        yield native.library()
        return
    flags = [flag for flag in native.FLAGS if flag != "-march=native"]
    found = native._loaded(native._compiled(native._compiler(), flags, tmp_path_factory.mktemp("native")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: found)
        yield found


# Ends that fill no vector of 16, and more than one thread's share.
SIZES = [(1, 8), (3, 16), (5, 75), (7, 576), (130, 1536)]


def _random(*shape, seed=0, scale=1.0):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


def _gradients(function, *inputs, direction):
    """Output and gradients of the inputs, in the inputs' dtype."""
    given = [t.detach().clone().requires_grad_() for t in inputs]
    out = function(*given)
    out.backward(direction.to(out.dtype))
    return [out.detach(), *(t.grad for t in given)]


def _without(monkeypatch, function, *arguments, **more):
    """The same computed by torch's operators."""
    with monkeypatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        return function(*arguments, **more)


def _as_near_as_torch(ours, theirs, exact, floor=1e-3):
    """Each is no farther from what float64 gives than torch's bf16 operators are, by norms, ``floor`` of the norm and, where that
    is 0, what fp32 leaves of a difference."""
    for mine, plain, true in zip(ours, theirs, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        error, bound = (float((t.double() - true).norm()) for t in (mine, plain))
        assert error <= 1.1 * bound + floor * float(true.norm()) + 1e-4


@pytest.mark.parametrize("shape", SIZES)
def test_silu_mul_and_its_gradients_are_as_near_to_the_exact_values_as_torchs(monkeypatch, shape):
    gate, up, direction = _random(*shape, scale=4), _random(*shape, seed=1), _random(*shape, seed=2)
    assert native.ready(gate, up)
    ours = _gradients(fused._SiluMul.apply, gate, up, direction=direction)
    plain = _without(monkeypatch, _gradients, fused._SiluMul.apply, gate, up, direction=direction)
    exact = _gradients(lambda g, u: F.silu(g) * u, gate.double(), up.double(), direction=direction)
    _as_near_as_torch(ours, plain, exact)


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("shape", SIZES)
def test_rms_norm_and_its_gradient_are_as_near_to_the_exact_values_as_torchs(monkeypatch, shape, plus_one):
    x, weight, direction = _random(*shape), _random(shape[-1], seed=1), _random(*shape, seed=2)

    def norm(x):
        return fused._RmsNorm.apply(x, weight, 1e-5, plus_one)

    def formula(x):
        wide = weight.double() + plus_one
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * wide

    ours = _gradients(norm, x, direction=direction)
    plain = _without(monkeypatch, _gradients, norm, x, direction=direction)
    _as_near_as_torch(ours, plain, _gradients(formula, x.double(), direction=direction))


def test_a_norm_does_not_touch_what_it_is_given(monkeypatch):
    x, weight, direction = _random(4, 64), _random(64, seed=1), _random(4, 64, seed=2)
    before = [t.clone() for t in (x, weight, direction)]
    _gradients(lambda x: fused._RmsNorm.apply(x, weight, 1e-5, False), x, direction=direction)
    assert all(map(torch.equal, (x, weight, direction), before))


@pytest.mark.parametrize("dim", [8, 20, 64])
def test_rotary_positions_and_their_gradients_are_as_near_to_the_exact_values_as_torchs(monkeypatch, dim):
    x = _random(1, 7, 3 * dim).view(1, 7, 3, dim).transpose(1, 2)
    cos, sin = _random(1, 7, dim, seed=1), _random(1, 7, dim, seed=2)
    direction = _random(1, 7, 3, dim, seed=3).transpose(1, 2)

    def turn(x):
        return rotary.rotary(x, x, cos, sin.clone())[0]

    def formula(x):
        first, second = x.chunk(2, -1)
        return x * cos.double() + torch.cat((-second, first), -1) * sin.double()

    ours = _gradients(turn, x, direction=direction)
    plain = _without(monkeypatch, _gradients, turn, x, direction=direction)
    _as_near_as_torch(ours, plain, _gradients(formula, x.double(), direction=direction))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 40) | st.sampled_from([64, 65, 150, 300]), min_size=1, max_size=5),
    st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    st.sampled_from([8, 20, 32, 64, 96]),
    st.sampled_from([None, 1, 3, 50, 1000]),
    st.booleans(),
)
def test_attention_and_its_gradients_are_as_near_to_the_exact_values_as_torchs(
    sizes, heads, dim, window, causal
):
    """Borders of examples, causality, windows, grouped heads, rows of one block and of many, padding cells; sizes that fill tiles and others."""
    packed, tokens = pack([[0] * n for n in sizes], causal=causal), sum(sizes)
    inputs = [
        _random(1, tokens, count, dim, seed=seed).transpose(1, 2)
        for seed, count in enumerate((heads[0], heads[1], heads[1]))
    ]
    direction = _random(1, tokens, heads[0], dim, seed=5)

    def attend(q, k, v):
        return packed_attention(
            nn.Module(), q, k, v, None, scaling=0.3, sliding_window=window, sortal_pack=packed
        )[0]

    assert native.ready(*(t.squeeze(0).transpose(0, 1) for t in inputs))
    ours = _gradients(attend, *inputs, direction=direction)
    plain = _without(pytest.MonkeyPatch(), _gradients, attend, *inputs, direction=direction)
    exact = _gradients(attend, *(t.double() for t in inputs), direction=direction)
    # Weights are kept for backward, or meet values, in bfloat16, steps of 2⁻⁸ below 1: where two keys share a query, that is seen in its gradient.
    _as_near_as_torch(ours, plain, exact, floor=2**-7)


@pytest.mark.parametrize("dim", [8, 64])  # blocks of rectangles, and tiles where there are some
@pytest.mark.parametrize("p", [3, 32, 41])
@pytest.mark.parametrize("window", [None, 20, 70])
def test_what_stands_before_every_example_is_seen_by_all(dim, p, window):
    sizes, heads, kv_heads = [5, 9, 130, 530], 4, 2  # the last is more than what a thread takes of a text
    start = [_random(p, kv_heads, dim, seed=seed) for seed in (1, 2)]
    q, k, v = (_random(1, sum(sizes), n, dim, seed=n).transpose(1, 2) for n in (heads, kv_heads, kv_heads))
    layer = nn.Module()
    layer.layer_idx = 0
    packed = pack([[0] * n for n in sizes])
    object.__setattr__(packed, "prefix", Prefix(p, {0: tuple(start)}))
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        if dim == 64 and native.library().has_tiles:
            patch.setattr(attention, "CausalAttention", None)  # it is not its blocks that answer
        out = packed_attention(layer, q, k, v, None, scaling=0.3, sliding_window=window, sortal_pack=packed)[
            0
        ][0]
    place = 0
    for n in sizes:
        queries, own_keys, own_values = (t[0, :, place : place + n].double() for t in (q, k, v))
        keys, values = (
            torch.cat([first.transpose(0, 1).double(), own], 1).repeat_interleave(heads // kv_heads, 0)
            for first, own in zip(start, (own_keys, own_values), strict=True)
        )
        seen = torch.ones(n, p + n).tril(p)
        hidden = ~(seen if window is None else seen.triu(p + 1 - window)).bool()
        logits = (0.3 * queries @ keys.transpose(1, 2)).masked_fill(hidden, float("-inf"))
        expected = (logits.softmax(-1) @ values).transpose(0, 1)
        torch.testing.assert_close(out[place : place + n].double(), expected, rtol=2e-2, atol=4e-2)
        place += n


@pytest.fixture
def tiles(library):
    if not library.has_tiles:
        pytest.skip("no tile unit (AMX) in this processor, or a library that does not use it")


# More than what one thread takes of a text in forward, where a block of keys begins before a window, and one token more.
@pytest.mark.parametrize("sizes", [[1100], [513, 512, 1], [1, 31, 32, 33]])
@pytest.mark.parametrize("window", [None, 40])
def test_tiles_attend_within_long_texts(tiles, sizes, window, monkeypatch):
    packed, tokens = pack([[0] * n for n in sizes]), sum(sizes)
    inputs = [_random(1, tokens, n, 64, seed=n, scale=2).transpose(1, 2) for n in (6, 2, 2)]
    direction = _random(1, tokens, 6, 64, seed=5)

    def attend(q, k, v):
        return packed_attention(nn.Module(), q, k, v, None, sliding_window=window, sortal_pack=packed)[0]

    with monkeypatch.context() as patch:
        patch.setattr(CausalAttention, "apply", None)  # it is not these that answer
        ours = _gradients(attend, *inputs, direction=direction)
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(3 if threads == 1 else 1)
            again = _gradients(attend, *inputs, direction=direction)
        finally:
            torch.set_num_threads(threads)
    assert all(map(torch.equal, ours, again))
    plain = _without(monkeypatch, _gradients, attend, *inputs, direction=direction)
    _as_near_as_torch(ours, plain, _gradients(attend, *(t.double() for t in inputs), direction=direction))


def test_tiles_take_heads_that_fill_them_and_see_what_is_no_number(tiles):
    x = [_random(40, n, 64, seed=n) for n in (4, 2, 2)]
    assert native_tiles.ready(*x)
    assert not native_tiles.ready(*(t[..., :20].contiguous() for t in x))
    assert not native_tiles.ready(*x[:2], x[2][..., :32].contiguous())
    x[1][8, 1, 3] = float("nan")
    texts = native_tiles.Texts(torch.tensor([0, 4, 40], dtype=torch.int32), 36, 0.1, None, True)
    out = native_tiles.attention(*x, texts)
    nan = out.isnan().any(-1)
    assert nan[8:, 2:].all()  # it is seen by those behind it, in the heads of its group
    assert nan.sum() == 32 * 2


@pytest.mark.parametrize("columns", [1, 15, 16, 75, 1536])
def test_rows_become_the_bytes_that_torch_would_make_of_them(columns, monkeypatch):
    x = _random(9, columns, scale=3)
    x[1] *= 1000
    x[2] = 0
    found, scales = native.to_bytes(x)
    with monkeypatch.context() as patch:
        patch.setattr(native, "ready", lambda *t: False)
        expected, theirs = int8._rounded(x)
    assert torch.equal(scales, theirs)
    # A product that is rounded once and not twice may lie on the other side of a half.
    away = (found.int() - expected.int()).abs()
    assert away.max() <= 1
    assert away.float().mean() < 0.01
    halves = (x.double() / scales.double() - (found.double() - 128)).abs()
    assert halves.max() <= 0.5 + 1e-5
    for wrong in (float("nan"), float("inf")):
        x[4, columns // 2] = wrong
        assert native.to_bytes(x)[1].isnan().flatten().tolist() == [i == 4 for i in range(9)]


@pytest.mark.parametrize("columns", [1, 15, 16, 75, 1536])
def test_rows_are_scaled_in_place(columns):
    x, factors = _random(9, columns), _random(9, 1, seed=1)
    expected = x * factors
    assert native.scale_rows_(x, factors) is x
    assert torch.equal(x, expected)


@pytest.mark.parametrize("columns", [1, 15, 16, 75, 49_152])
def test_log_sum_exp_is_the_exact_one(columns):
    x = _random(5, columns, scale=6) - 40  # all below 0, where lanes behind the last column would show
    x[1, 0], x[2, -1] = float("nan"), -float("inf")
    found, exact = native.log_sum_exp(x), x.double().logsumexp(-1)
    assert found[1].isnan()
    kept = [0, 3, 4] if columns == 1 else [0, 2, 3, 4]
    torch.testing.assert_close(found[kept].double(), exact[kept], rtol=0, atol=2e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38, -3e38])
def test_what_is_no_number_does_not_become_one(value):
    """A run that diverges must be seen to."""
    gate, up = _random(2, 32), _random(2, 32, seed=1)
    gate[1, 3] = value
    expected = F.silu(gate.float()) * up.float()
    found = native.silu_mul(gate, up)
    assert torch.equal(found.isnan(), expected.bfloat16().isnan())
    assert torch.equal(found.isinf(), expected.bfloat16().isinf())
    normed, _ = native.rms_norm(gate, torch.ones(32).bfloat16(), 1e-5, False)
    assert normed[0].isfinite().all()
    if value != value:
        assert normed[1].isnan().all()
        logits = torch.zeros(1, 2, 20).bfloat16()
        logits[0, 1, 3] = value
        native.causal_softmax_(logits, 2, 18, None, 1.0)
        assert logits[0, 0].isfinite().all()
        assert logits[0, 1].isnan().all()


def test_large_logits_neither_overflow_nor_vanish():
    logits = torch.tensor([[[3e4, -3e4, 3e4, 1.0]]]).bfloat16()
    native.causal_softmax_(logits, 1, 3, None, 1.0)
    assert logits.flatten().tolist() == pytest.approx([0.5, 0.0, 0.5, 0.0], abs=1e-30)


def test_a_step_of_a_decoder_is_as_near_to_the_exact_one_as_with_torchs_operators(monkeypatch):
    config = LlamaConfig(
        hidden_size=96, intermediate_size=200, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2,
        vocab_size=50, attn_implementation="sortal_packed",
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaModel(config).bfloat16().requires_grad_(False)
    exact_model = LlamaModel(config).double().requires_grad_(False)
    exact_model.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    fuse(model)
    packed = pack([[1, 2, 3], [4] * 70, [5, 6]])
    embedded = model.embed_tokens(packed.input_ids)
    direction = _random(1, packed.tokens, 96, seed=3)

    def states(model):
        return lambda x: model(inputs_embeds=x, position_ids=packed.position_ids, sortal_pack=packed).last_hidden_state  # fmt: skip

    ours = _gradients(states(model), embedded, direction=direction)
    plain = _without(monkeypatch, _gradients, states(model), embedded, direction=direction)
    exact = _gradients(states(exact_model), embedded.double(), direction=direction)
    assert not torch.equal(ours[0], plain[0])  # they were used
    _as_near_as_torch(ours, plain, exact)


def test_other_tensors_are_left_to_torch():
    x = _random(4, 6)
    assert native.ready(x)
    assert not native.ready(x.float())
    assert not native.ready(x.t())
    assert not native.ready(x, x[:0])


def _state(**variables):
    code = "from sortal.backbone import native; print(native.state())"
    environment = {**os.environ, **variables}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return found.stdout.strip() or found.stderr


def test_a_machine_without_a_compiler_and_one_whose_compiler_fails_use_torch(tmp_path):
    assert "off" in _state(SORTAL_NATIVE="0")
    assert "no C compiler" in _state(CC="/nowhere/cc")
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    assert "could not build" in _state(CC=str(broken), SORTAL_CACHE=str(tmp_path))
    assert not list((tmp_path / "native").iterdir())


@pytest.mark.parametrize(
    ("right", "mistaken"),
    [
        ("x * sigmoid(x) * GET(u)", "x * sigmoid(x) + GET(u)"),
        ("turned(slopes, columns, columns, narrow)", "turned(logits, columns, columns, narrow)"),
        ("if (start) place -= count", "if (start) place -= 0"),
    ],
)
def test_a_compiler_that_gets_the_numbers_wrong_is_not_believed(tmp_path, right, mistaken):
    if right not in native.SOURCE.read_text() and not native.library().has_tiles:
        pytest.skip("no tile unit (AMX) in this processor, or a library that does not use it")
    source = native.SOURCE.read_text()
    for header in native.HEADERS:
        source = source.replace(f'#include "{header.name}"', header.read_text())
    wrong = tmp_path / "wrong.c"
    wrong.write_text(source.replace(right, mistaken))
    assert wrong.read_text() != source
    compiler = tmp_path / "cc"
    compiler.write_text(
        f"#!/bin/sh\nexec {shutil.which('cc') or shutil.which('gcc')} "
        f'$(for a in "$@"; do [ "$a" = "{native.SOURCE}" ] && echo {wrong} || echo "$a"; done)\n'
    )
    compiler.chmod(0o755)
    assert "could not build" in _state(CC=str(compiler), SORTAL_CACHE=str(tmp_path))
    assert _state(SORTAL_CACHE=str(tmp_path)).startswith("compiled")
    assert [path.suffix for path in (tmp_path / "native").iterdir()] == [".so"]


def test_a_damaged_library_is_built_anew(tmp_path):
    assert _state(SORTAL_CACHE=str(tmp_path)).startswith("compiled")
    (built,) = (tmp_path / "native").iterdir()
    built.write_bytes(b"no library")
    assert _state(SORTAL_CACHE=str(tmp_path)).startswith("compiled")
    assert built.stat().st_size > 1000


def test_threads_are_those_that_torch_was_given(library):
    """Another OpenMP library would have threads of its own beside torch's."""
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert library.threads() == count
    finally:
        torch.set_num_threads(before)
