"""Products in tiles: as near to float64's as torch's are, the same bits for a row whatever stands beside it."""

from __future__ import annotations

import pytest
import torch

from sortal.backbone import native, native_products

pytestmark = pytest.mark.skipif(
    not native_products.there(), reason="no tile unit (AMX) in this processor, or no C compiler"
)
# From one tile to weights of several parts, of which the last is shorter; rows below, at and above what is treated together.
SHAPES = [(32, 32), (64, 96), (576, 192), (672, 64), (1536, 576)]
ROWS = [1, 31, 33, 300, 700]


# Three threads take rows each, or of few rows some columns; six take columns of several rounds of rows, too.
@pytest.fixture(params=[1, 3, 6], ids=["one thread", "three threads", "six threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def numbers(*shape, seed=0, scale=1.0):
    found = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return found.mul_(scale).bfloat16()


def distance(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize(("columns", "out"), SHAPES)
def test_a_packed_weight_is_the_same_matrix(columns, out):
    weight = numbers(out, columns)
    tiles = native_products.packed(weight)
    assert tiles.shape == (out // 16, columns // 32, 16, 32)
    assert torch.equal(native_products.unpacked(tiles), weight)


@pytest.mark.parametrize(("columns", "out"), SHAPES)
@pytest.mark.parametrize("rows", ROWS)
def test_a_linear_layer_is_rounded_once(rows, columns, out, threads):
    x, weight = numbers(rows, columns), numbers(out, columns, seed=1, scale=0.05)
    exact = x.double() @ weight.double().T
    found = native_products.linear(x, native_products.packed(weight))
    assert found.shape == (rows, out)
    assert distance(found, exact) < 1.01 * distance(exact.bfloat16(), exact) + 1e-5


@pytest.mark.parametrize(("hidden", "inner"), [(32, 32), (64, 96), (576, 1536), (704, 1344)])
@pytest.mark.parametrize("rows", ROWS)
def test_a_gated_mlp_is_nearer_than_its_parts_one_by_one(rows, hidden, inner, threads):
    x = numbers(rows, hidden)
    gate, up = (numbers(inner, hidden, seed=seed, scale=hidden**-0.5) for seed in (1, 2))
    down = numbers(hidden, inner, seed=3, scale=inner**-0.5)
    opened, raised = x.double() @ gate.double().T, x.double() @ up.double().T
    exact = (torch.nn.functional.silu(opened) * raised) @ down.double().T
    parts = native.silu_mul(x @ gate.T, x @ up.T) @ down.T
    found = native_products.mlp(x, *map(native_products.packed, (gate, up, down)))
    assert distance(found, exact) < distance(parts, exact)
    assert distance(found, exact) < 2**-7


@pytest.mark.parametrize(
    ("hidden", "heads", "kv_heads", "dim"), [(64, 4, 2, 16), (96, 2, 1, 32), (576, 9, 3, 64)]
)
@pytest.mark.parametrize("rows", ROWS)
def test_queries_keys_and_values_are_those_of_the_modules_one_by_one(
    rows, hidden, heads, kv_heads, dim, threads
):
    x, norm = numbers(rows, hidden), native_products.Norm(numbers(hidden, seed=1), 1e-5)
    cosine, sine = numbers(rows, dim, seed=2), numbers(rows, dim, seed=3)
    outs = (heads * dim, kv_heads * dim, kv_heads * dim)
    weights = [
        native_products.packed(numbers(out, hidden, seed=4 + i, scale=0.1)) for i, out in enumerate(outs)
    ]
    normed, _ = native.rms_norm(x, norm.weight, norm.eps, False)
    expected = [native_products.linear(normed, weight) for weight in weights]
    expected[:2] = [native.rotate(t.view(rows, -1, dim), cosine, sine).view(rows, -1) for t in expected[:2]]
    found = native_products.queries_keys_values(x, norm, weights, cosine, sine)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(
    ("hidden", "width", "inner"), [(64, 64, 96), (64, 128, 32), (128, 64, 96), (576, 576, 1536)]
)
@pytest.mark.parametrize("rows", ROWS)
def test_what_comes_behind_attention_is_that_of_the_modules_one_by_one(rows, hidden, width, inner, threads):
    states, x = numbers(rows, width), numbers(rows, hidden, seed=1)
    norm = native_products.Norm(numbers(hidden, seed=2), 1e-5)
    project = native_products.packed(numbers(hidden, width, seed=3, scale=0.1))
    gate, up = (native_products.packed(numbers(inner, hidden, seed=seed, scale=0.1)) for seed in (4, 5))
    down = native_products.packed(numbers(hidden, inner, seed=6, scale=0.1))
    between = x + native_products.linear(states, project)
    normed, _ = native.rms_norm(between, norm.weight, norm.eps, False)
    expected = between + native_products.mlp(normed, gate, up, down)
    found = native_products.behind_attention(states, x, project, norm, gate, up, down)
    assert torch.equal(found, expected)
    assert torch.equal(x, numbers(rows, hidden, seed=1)), "what the layer began with may be read again"


def test_rows_do_not_touch_each_other(threads):
    x, gate, up = numbers(600, 64), numbers(96, 64, seed=1), numbers(96, 64, seed=2)
    tiles = [native_products.packed(weight) for weight in (gate, up, numbers(64, 96, seed=3))]
    whole, whole_linear = native_products.mlp(x, *tiles), native_products.linear(x, tiles[0])
    for part in (slice(0, 1), slice(40, 77), slice(590, 600)):
        assert torch.equal(native_products.mlp(x[part], *tiles), whole[part])
        assert torch.equal(native_products.linear(x[part], tiles[0]), whole_linear[part])
    x[7], x[8, 3] = float("nan"), float("inf")
    for found, before in (
        (native_products.mlp(x, *tiles), whole),
        (native_products.linear(x, tiles[0]), whole_linear),
    ):
        assert found[7].isnan().all()
        assert not found[8].isfinite().any()
        assert torch.equal(found[:7], before[:7])
        assert torch.equal(found[9:], before[9:])


def test_shapes_with_leading_sizes_slices_and_no_rows_at_all():
    weight = native_products.packed(numbers(64, 32))
    down = native_products.packed(numbers(32, 64))
    x = numbers(2, 5, 64)[..., ::2]
    assert not x.is_contiguous()
    assert torch.equal(
        native_products.linear(x, weight).view(10, 64),
        native_products.linear(x.reshape(10, 32).contiguous(), weight),
    )
    assert native_products.mlp(x, weight, weight, down).shape == (2, 5, 32)
    assert native_products.linear(x[:0], weight).shape == (0, 5, 64)
    assert native_products.mlp(x[:0], weight, weight, down).shape == (0, 5, 32)


@pytest.mark.parametrize(
    "weight",
    [
        numbers(48, 32),
        numbers(32, 48),
        numbers(32, 32).float(),
        numbers(64, 64).T[:32],
        numbers(32, 32)[None],
    ],
    ids=["rows", "columns", "fp32", "not contiguous", "no matrix"],
)
def test_other_weights_are_not_packed(weight):
    assert not native_products.packable(weight)
    assert native_products.packable(numbers(32, 32))


@pytest.mark.parametrize(
    "x", [numbers(3, 32).float(), numbers(3, 64), numbers(3, 31)], ids=["fp32", "more columns", "fewer"]
)
def test_what_a_weight_does_not_fit_is_refused(x):
    weight, down = native_products.packed(numbers(64, 32)), native_products.packed(numbers(32, 64))
    with pytest.raises(RuntimeError, match="a weight in tiles for 32 columns"):
        native_products.linear(x, weight)
    with pytest.raises(RuntimeError, match="a weight in tiles for 32 columns"):
        native_products.mlp(x, weight, weight, down)
