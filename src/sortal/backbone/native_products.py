"""Products with frozen weights on a processor with a tile unit (AMX), of `native`'s library: `native_products.h`.

On the shapes of a small decoder oneDNN reaches 30 to 40 % of what the unit can do: passing rows drive the weights out of the first cache, gate and up go
to memory and come back, and results wait for the lines they are written to. With weights in the order of tiles (`packed`) and rows that stay in the second cache for a
whole MLP it is 50 to 60 %; docs/adr/0010 has the measurements.

Tensors are bfloat16 on the CPU; what is not contiguous is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch

from sortal.backbone import native


def there() -> bool:
    """Whether this machine has a tile unit and the compiled kernels for it."""
    return bool((found := native.library()) and found.has_tiles)


def packable(weight: torch.Tensor) -> bool:
    """Whether `packed` may be given this weight ``[out, in]``: bfloat16 on the CPU, both sizes multiples of 32."""
    return weight.dim() == 2 and not any(size % 32 for size in weight.shape) and native.ready(weight)


def packed(weight: torch.Tensor) -> torch.Tensor:
    """A weight ``[out, in]`` in the order of tiles, ``[out / 16, in / 32, 16, 32]``: pairs of 16 outputs' inputs."""
    out, columns = weight.shape
    tiles = weight.new_empty(out // 16, columns // 32, 16, 32)
    native.library().tile_weight(weight.data_ptr(), out, columns, tiles.data_ptr())
    return tiles


def unpacked(tiles: torch.Tensor) -> torch.Tensor:
    """The matrix of a `packed` weight."""
    panels, steps = tiles.shape[:2]
    pairs = tiles.view(panels, steps, 16, 16, 2).permute(0, 3, 1, 2, 4)
    return pairs.reshape(panels * 16, steps * 32)


def linear(x: torch.Tensor, tiles: torch.Tensor) -> torch.Tensor:
    """x ``[..., in]`` times a packed weight → ``[..., out]``.

    Raises:
        RuntimeError: x is not bfloat16 on the CPU, or has another number of columns. MemoryError: there is none for what a core keeps.
    """
    rows = _rows(x, tiles)
    (out,) = _projected(rows, [tiles])
    return out.view(*x.shape[:-1], out.shape[1])


class Norm(NamedTuple):
    """Of the root of the mean square: weight bfloat16 ``[hidden]``, and what is added below the root."""

    weight: torch.Tensor
    eps: float


def queries_keys_values(
    x: torch.Tensor,
    norm: Norm,
    tiles: Sequence[torch.Tensor],
    cosine: torch.Tensor,
    sine: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Of states x ``[rows, hidden]``, normed: packed weights of queries, keys and values → ``[rows, out]`` each, the first two turned by their positions.

    Args:
        cosine, sine: contiguous bfloat16 ``[rows, head_dim]``, as of `native.rotate`.
    """
    return _projected(_rows(x, tiles[0]), tiles, norm, (cosine, sine))


def _projected(
    rows: torch.Tensor,
    tiles: Sequence[torch.Tensor],
    norm: Norm | None = None,
    positions: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, ...]:
    out = tuple(rows.new_empty(len(rows), weight.shape[0] * 16) for weight in tiles)
    if len(rows):
        weights = [(w.data_ptr(), o.shape[1], o.data_ptr()) for w, o in zip(tiles, out, strict=True)]
        each = chain.from_iterable([*weights, *[(0, 0, 0)] * (3 - len(weights))])
        first = (0, 0.0) if norm is None else (norm.weight.data_ptr(), norm.eps)
        turned = (
            (0, 0, 0) if positions is None else (*(t.data_ptr() for t in positions), positions[0].shape[1])
        )
        _check(native.library().tile_project(rows.data_ptr(), *rows.shape, *first, *each, *turned))
    return out


def mlp(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """``(silu(x gate) · x up) down`` of packed weights, x ``[..., hidden]`` → the same shape; raises as `linear`.

    What lies between gate, up and down is rounded once, as the input of down.
    """
    rows, out = _rows(x, gate), torch.empty(x.shape, dtype=x.dtype)
    if out.numel():
        sizes = (rows.data_ptr(), *rows.shape, gate.shape[0] * 16)
        weights = (gate.data_ptr(), up.data_ptr(), down.data_ptr())
        _check(native.library().tile_mlp(*sizes, *weights, out.data_ptr(), 0, 0, 0, 0, 0.0))
    return out


def behind_attention(
    states: torch.Tensor,
    x: torch.Tensor,
    project: torch.Tensor,
    norm: Norm,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
) -> torch.Tensor:
    """The rest of a decoder's layer: ``y = x + states project``, then ``y + mlp(norm(y))``, of packed weights.

    Args:
        states: ``[..., heads · head_dim]``, what attention left. x: ``[..., hidden]``, what the layer began with.

    Returns:
        x's shape; rounded to bfloat16 where the layer's modules round, so the same bits.
    """
    heads, rows, out = _rows(states, project), _rows(x, gate), torch.empty(x.shape, dtype=x.dtype)
    if out.numel():
        sizes = (rows.data_ptr(), *rows.shape, gate.shape[0] * 16)
        weights = (gate.data_ptr(), up.data_ptr(), down.data_ptr())
        before = (heads.data_ptr(), heads.shape[1], project.data_ptr(), norm.weight.data_ptr(), norm.eps)
        _check(native.library().tile_mlp(*sizes, *weights, out.data_ptr(), *before))
    return out


def tried(library: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What ``library`` computes for a few rows and what torch does: a product whose weight has two parts, a gated MLP, and a layer before and behind attention."""
    rows, hidden, inner = 40, 32, 672
    x, *weights = (
        torch.arange(height * width).mul(0.7).sin().bfloat16().view(height, width)
        for height, width in ((rows, hidden), (inner, hidden), (inner, hidden), (hidden, inner))
    )
    packed = [torch.empty_like(weight) for weight in weights]
    for weight, tiles in zip(weights, packed, strict=True):
        library.tile_weight(weight.data_ptr(), *weight.shape, tiles.data_ptr())
    between = torch.nn.functional.silu(x.float() @ weights[0].float().T) * (x.float() @ weights[1].float().T)
    found, alone = torch.empty_like(x), torch.empty_like(x)
    pointers = (t.data_ptr() for t in packed)
    library.tile_mlp(x.data_ptr(), rows, hidden, inner, *pointers, found.data_ptr(), 0, 0, 0, 0, 0.0)
    between_rounded = between.bfloat16()
    last = (packed[2].data_ptr(), hidden, alone.data_ptr(), *[0] * 6)
    library.tile_project(between_rounded.data_ptr(), rows, inner, 0, 0.0, *last, 0, 0, 0)
    exact = between_rounded.float() @ weights[2].float().T

    # The layer's norm weighs as x's first row; its positions turn heads of 32 by x and its reverse.
    norm, turns = x[0].contiguous(), (x, x.flip(0))

    def normed(rows: torch.Tensor) -> torch.Tensor:
        wide = rows.float()
        return (wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + 1e-5) * norm.float()).bfloat16()

    heads = [torch.empty(rows, inner).bfloat16() for _ in range(2)]
    ways = [
        value
        for t, out in zip(packed, heads, strict=False)
        for value in (t.data_ptr(), inner, out.data_ptr())
    ]
    library.tile_project(
        x.data_ptr(), rows, hidden, norm.data_ptr(), 1e-5, *ways, 0, 0, 0, *(t.data_ptr() for t in turns), hidden
    )  # fmt: skip
    plain = (normed(x) @ weights[0].T).float().view(rows, -1, hidden)
    cosine, sine = (t.float()[:, None] for t in turns)
    turned = (plain * cosine + plain.roll(hidden // 2, -1) * sine).view(rows, inner)

    square = x[:hidden].contiguous()
    project, whole = torch.empty_like(square), torch.empty_like(x)
    library.tile_weight(square.data_ptr(), hidden, hidden, project.data_ptr())
    before = (x.data_ptr(), hidden, project.data_ptr(), norm.data_ptr(), 1e-5)
    pointers = (t.data_ptr() for t in packed)
    library.tile_mlp(x.data_ptr(), rows, hidden, inner, *pointers, whole.data_ptr(), *before)
    begun = x + (x @ square.T)
    states = normed(begun).float()
    opened = torch.nn.functional.silu(states @ weights[0].float().T) * (states @ weights[1].float().T)
    rest = begun.float() + opened.bfloat16().float() @ weights[2].float().T
    return [(found, exact), (alone, exact), (heads[0], turned), (whole, rest)]


def _rows(x: torch.Tensor, tiles: torch.Tensor) -> torch.Tensor:
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or x.shape[-1] != tiles.shape[1] * 32:
        raise RuntimeError(
            f"a weight in tiles for {tiles.shape[1] * 32} columns of bfloat16 on the CPU cannot take {tuple(x.shape)} of {x.dtype} on {x.device}"
        )
    return x.reshape(-1, x.shape[-1]).contiguous()


def _check(failed: Any) -> None:
    if failed:
        raise MemoryError
