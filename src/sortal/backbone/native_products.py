"""Products with frozen weights on a processor with a tile unit (AMX), of `native`'s library: `native_products.h`.

On the shapes of a small decoder oneDNN reaches 30 to 40 % of what the unit can do: passing rows drive the weights out of the first cache, gate and up go
to memory and come back, and results wait for the lines they are written to. With weights in the order of tiles (`packed`) and rows that stay in the second cache for a
whole MLP it is 50 to 60 %; docs/adr/0010 has the measurements.

Tensors are bfloat16 on the CPU; what is not contiguous is copied.
"""

from __future__ import annotations

from typing import Any

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
    rows, out = _rows(x, tiles), x.new_empty(*x.shape[:-1], tiles.shape[0] * 16)
    if out.numel():
        sizes = (rows.data_ptr(), rows.shape[0], rows.shape[1], tiles.data_ptr(), out.shape[-1])
        _check(native.library().tile_linear(*sizes, out.data_ptr()))
    return out


def mlp(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """``(silu(x gate) · x up) down`` of packed weights, x ``[..., hidden]`` → the same shape; raises as `linear`.

    What lies between gate, up and down is rounded once, as the input of down.
    """
    rows, out = _rows(x, gate), torch.empty(x.shape, dtype=x.dtype)
    if out.numel():
        sizes = (rows.data_ptr(), *rows.shape, gate.shape[0] * 16)
        weights = (gate.data_ptr(), up.data_ptr(), down.data_ptr())
        _check(native.library().tile_mlp(*sizes, *weights, out.data_ptr()))
    return out


def tried(library: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What ``library`` computes for a few rows and what torch does: a product whose weight has two parts, and a gated MLP."""
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
    library.tile_mlp(x.data_ptr(), rows, hidden, inner, *(t.data_ptr() for t in packed), found.data_ptr())
    between_rounded = between.bfloat16()
    library.tile_linear(
        between_rounded.data_ptr(), rows, inner, packed[2].data_ptr(), hidden, alone.data_ptr()
    )
    exact = between_rounded.float() @ weights[2].float().T
    return [(found, exact), (alone, exact)]


def _rows(x: torch.Tensor, tiles: torch.Tensor) -> torch.Tensor:
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or x.shape[-1] != tiles.shape[1] * 32:
        raise RuntimeError(
            f"a weight in tiles for {tiles.shape[1] * 32} columns of bfloat16 on the CPU cannot take {tuple(x.shape)} of {x.dtype} on {x.device}"
        )
    return x.reshape(-1, x.shape[-1]).contiguous()


def _check(failed: Any) -> None:
    if failed:
        raise MemoryError
