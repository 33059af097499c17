"""Element-wise parts of a decoder's step on a CPU in bfloat16, one pass over memory each: `native.c`, compiled where it runs.

A matrix product on a CPU with a tile unit is so fast that what stands between the products takes longer than they do, and torch makes several
passes over memory where one will do. GCC on the machine (``cc``, ``gcc`` or ``$CC``) builds the library once, in a second,
for exactly its processor; it is tried on numbers and kept in the cache folder. Without one, or with ``SORTAL_NATIVE=0``, torch's operators compute the same.

All tensors here are bfloat16 on the CPU and contiguous (`ready`) unless said otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sortal.backbone.cache import cache_dir

if TYPE_CHECKING:
    from sortal.backbone.packing import AttentionGroup

SOURCE = Path(__file__).with_name("native.c")
HEADERS = [SOURCE.with_name(name) for name in ("native_tiles.h", "native_products.h")]
# Not -ffast-math: it would drop NaNs and, in a shared library, flush small numbers to zero in the whole process.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-w")
NO_WINDOW = 1 << 40

_P, _N, _F, _I = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "silu_mul": (_P, _P, _P, _N),
    "silu_mul_backward": (_P, _P, _P, _P, _P, _N),
    "rms_norm": (_P, _P, _P, _P, _N, _N, _F, _I),
    "rms_norm_backward": (_P, _P, _P, _P, _P, _N, _N, _I),
    "to_bytes": (_P, _P, _P, _N, _N),
    "scale_rows": (_P, _P, _N, _N),
    "log_sum_exp": (_P, _P, _N, _N),
    "rotate": (_P, _P, _P, _P, _N, _N, _N),
    "to_cells": (_P, _P, _P, _N, _P, _N, _N, _N, _N, _N, _N),
    "from_cells": (_P, _P, _P, _N, _P, _N, _N, _N, _N, _N, _N),
    "causal_softmax": (_P, _N, _N, _N, _N, _N, _F),
    "causal_softmax_backward": (_P, _P, _N, _N, _N, _N, _N, _F),
}
# Those there are where the processor has a tile unit (AMX), which say whether there was memory.
_SIZES = (_P, _N, _N, _N, _N, _N, _N, _I, _F)
_TILE_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "tile_attention": (_P, _P, _P, _P, _P, _N, *_SIZES, _P),
    "tile_attention_backward": (_P, _P, _P, _P, *_SIZES, _P, _P, _P),
    "tile_tree_attention": (_P, _P, _P, _P, _P, _N, _P, _P, _N, _N, _P, _P, _N, _N, _N, _N, _F, _P),
    "tile_tree_attention_backward": (*[_P] * 6, _N, _P, _P, *[_N] * 5, _F, *[_P] * 5),
    "tile_weight": (_P, _N, _N, _P),
    "tile_project": (_P, _N, _N, _P, _F, *(_P, _N, _P) * 3, _P, _P, _N),
    "tile_mlp": (_P, _N, _N, _N, *[_P] * 4, _P, _N, _P, _P, _F),
}


def ready(*tensors: torch.Tensor) -> bool:
    """Whether the library may be given these: it is there, and they are bfloat16 on the CPU, contiguous and not empty."""
    return all(
        t.dtype == torch.bfloat16 and t.device.type == "cpu" and t.is_contiguous() and t.numel()
        for t in tensors
    ) and bool(library())


def state() -> str:
    """``compiled``, with what for, or why it is not, as ``sortal doctor`` says it."""
    if os.environ.get("SORTAL_NATIVE") == "0":
        return "off (SORTAL_NATIVE=0)"
    if not sys.platform.startswith("linux"):
        return "none (Linux only)"
    if _compiler() is None:
        return "none: no C compiler found; install gcc to train and answer faster on a CPU"
    found = library()
    if not found:
        return "none: the C compiler could not build them; GCC can"
    return "compiled, attention in tiles" if found.has_tiles else "compiled"


@functools.cache
def library() -> Any:
    """The loaded library, or None where there is none."""
    compiler = _compiler()
    if os.environ.get("SORTAL_NATIVE") == "0" or not sys.platform.startswith("linux") or compiler is None:
        return None
    try:
        processor = next(
            (
                line
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith(("flags", "Features"))
            ),
            "",
        )
        text = b"".join(path.read_bytes() for path in (SOURCE, *HEADERS))
        key = hashlib.sha256(repr((text, FLAGS, compiler, processor)).encode()).hexdigest()[:16]
        path = cache_dir() / "native" / f"{key}.so"
        if path.exists():
            with contextlib.suppress(OSError):  # a file that was damaged is made anew
                return _loaded(path)
        _build(compiler, path)
        return _loaded(path)
    except (OSError, subprocess.SubprocessError):
        return None


def _compiler() -> str | None:
    named = os.environ.get("CC")
    return next(filter(None, map(shutil.which, [named] if named else ["cc", "gcc"])), None)


def _build(compiler: str, path: Path) -> None:
    """Compile, try on numbers, and only then put the library where it is looked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = _compiled(compiler, FLAGS, Path(folder))
        _try_out(_loaded(made))
        made.replace(path)


def _compiled(compiler: str, flags: Sequence[str], folder: Path) -> Path:
    """The library in ``folder``, linked without OpenMP: what torch has loaded has the threads that torch was given."""
    objects, library = folder / "native.o", folder / "native.so"
    for command in (
        [compiler, *flags, f"-I{SOURCE.parent}", "-c", str(SOURCE), "-o", str(objects)],
        [compiler, "-shared", str(objects), "-o", str(library), "-lm"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return library


def _loaded(path: Path) -> Any:
    library: Any = ctypes.CDLL(str(path))
    for name, types in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, None
    library.has_tiles = bool(library.tiles())
    if library.has_tiles:
        for name, types in _TILE_FUNCTIONS.items():
            getattr(library, name).argtypes = types
    return library


def _try_out(library: Any) -> None:
    """Compare with torch on a few numbers: a compiler that gets them wrong must not be believed.

    Raises:
        OSError: it does.
    """
    gate, up, out = (
        torch.linspace(-9, 9, 75).bfloat16(),
        torch.linspace(3, -2, 75).bfloat16(),
        torch.empty(75).bfloat16(),
    )
    library.silu_mul(gate.data_ptr(), up.data_ptr(), out.data_ptr(), 75)
    weights = torch.linspace(-4, 4, 75).bfloat16()
    library.causal_softmax(weights.data_ptr(), 15, 5, 5, 0, NO_WINDOW, 1.0)
    logits = torch.linspace(-4, 4, 75).bfloat16().float().view(3, 5, 5)
    expected = logits.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf")).softmax(-1)
    pairs = [(out, torch.nn.functional.silu(gate.float()) * up.float()), (weights.view(3, 5, 5), expected)]
    if library.has_tiles:
        from sortal.backbone import native_products, native_tiles  # which need this module

        pairs += native_tiles.tried(library) + native_products.tried(library)
    if not all((ours.float() - theirs).abs().max() <= 1e-2 * theirs.abs().max() for ours, theirs in pairs):
        raise OSError("the compiled kernels do not compute what torch does")


def silu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) · up``, tensors of one shape."""
    out = torch.empty_like(gate)
    library().silu_mul(gate.data_ptr(), up.data_ptr(), out.data_ptr(), gate.numel())
    return out


def silu_mul_backward(
    grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients to gate and up."""
    to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
    pointers = [t.data_ptr() for t in (grad, gate, up, to_gate, to_up)]
    library().silu_mul_backward(*pointers, gate.numel())
    return to_gate, to_up


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, plus_one: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The norm of x ``[..., hidden]`` and, in fp32, ``rsqrt(mean(x²) + eps)`` of every row."""
    hidden = x.shape[-1]
    rows = x.numel() // hidden
    out, inverse = torch.empty_like(x), torch.empty(rows)
    pointers = [t.data_ptr() for t in (x, weight, out, inverse)]
    library().rms_norm(*pointers, rows, hidden, eps, plus_one)
    return out, inverse


def rms_norm_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor, plus_one: bool
) -> torch.Tensor:
    """Gradient to x."""
    out = torch.empty_like(x)
    pointers = [t.data_ptr() for t in (grad, x, weight, inverse, out)]
    library().rms_norm_backward(*pointers, len(inverse), x.shape[-1], plus_one)
    return out


def to_bytes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of x ``[rows, columns]`` as uint8 around 128 and a scale each, bfloat16 ``[rows, 1]``: x is ``(bytes - 128) · scale``, rounded."""
    rows, scales = torch.empty(x.shape, dtype=torch.uint8), x.new_empty(len(x), 1)
    library().to_bytes(x.data_ptr(), rows.data_ptr(), scales.data_ptr(), *x.shape)
    return rows, scales


def scale_rows_(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """x ``[rows, columns]`` times ``factors`` ``[rows, 1]``, in place."""
    library().scale_rows(x.data_ptr(), factors.data_ptr(), *x.shape)
    return x


def log_sum_exp(x: torch.Tensor) -> torch.Tensor:
    """``log Σ exp`` of every row of x ``[rows, columns]``, fp32 ``[rows]``."""
    out = torch.empty(len(x))
    library().log_sum_exp(x.data_ptr(), out.data_ptr(), *x.shape)
    return out


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """``x · cosine + roll(x) · sine`` of x ``[tokens, heads, dim]``; cosine, sine ``[tokens, dim]``."""
    out = torch.empty_like(x)
    library().rotate(*(t.data_ptr() for t in (x, cosine, sine, out)), *x.shape)
    return out


def to_cells(x: torch.Tensor, group: AttentionGroup, start: int, end: int) -> torch.Tensor:
    """Columns ``start:end`` of a rectangle, ``[rows, heads, end - start, dim]``, from x ``[tokens, heads, dim]``; cells without a token are 0."""
    heads, dim = x.shape[1:]
    out = x.new_empty(group.rows, heads, end - start, dim)
    _move(library().to_cells, x, out, group, start, end, heads, dim)
    return out


def from_cells(cells: torch.Tensor, group: AttentionGroup, start: int, end: int, out: torch.Tensor) -> None:
    """The way back, into the group's tokens of ``out``."""
    _move(library().from_cells, cells, out, group, start, end, *out.shape[1:])


def _move(function: Any, source: torch.Tensor, out: torch.Tensor, group: AttentionGroup, *sizes: int) -> None:
    start, end, heads, dim = sizes
    places = (group.scatter.data_ptr(), group.positions.data_ptr(), len(group.scatter))
    function(source.data_ptr(), *places, out.data_ptr(), group.rows, group.width, start, end, heads, dim)


def causal_softmax_(
    logits: torch.Tensor, queries: int, offset: int, window: int | None, scale: float
) -> None:
    """Softmax of ``scale · logits`` in place: ``[batch, rounds of queries, keys]``, query i at place ``offset + i`` among the keys it may see."""
    library().causal_softmax(
        logits.data_ptr(),
        logits.shape[0] * logits.shape[1],
        queries,
        logits.shape[2],
        offset,
        window or NO_WINDOW,
        scale,
    )


def causal_softmax_backward_(
    grad: torch.Tensor, weights: torch.Tensor, queries: int, offset: int, window: int | None, scale: float
) -> None:
    """From the gradient of the weights to that of the logits, in place in ``grad``."""
    library().causal_softmax_backward(
        grad.data_ptr(),
        weights.data_ptr(),
        grad.shape[0] * grad.shape[1],
        queries,
        grad.shape[2],
        offset,
        window or NO_WINDOW,
        scale,
    )
