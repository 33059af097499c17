"""Element-wise parts of a decoder's step on a CPU in bfloat16, one pass over memory each: `native.c`, compiled where it runs.

A matrix product on a CPU with a tile unit is so fast that what stands between the products takes longer than they do, and torch makes several
passes over memory where one will do. A C compiler on the machine (``cc``, ``gcc``, ``clang`` or ``$CC``) builds the library once, in a second,
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
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sortal.backbone.cache import cache_dir

if TYPE_CHECKING:
    from sortal.backbone.packing import AttentionGroup
    from sortal.backbone.trees import TreeGroup

SOURCE = Path(__file__).with_name("native.c")
TILES = Path(__file__).with_name("native_tiles.h")
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
}


def ready(*tensors: torch.Tensor) -> bool:
    """Whether the library may be given these: it is there, and they are bfloat16 on the CPU, contiguous and not empty."""
    return all(
        t.dtype == torch.bfloat16 and t.device.type == "cpu" and t.is_contiguous() and t.numel()
        for t in tensors
    ) and bool(_library())


class Texts(NamedTuple):
    """Texts side by side, and what a token sees of its own.

    starts: int32 ``[texts + 1]``, where every text starts and the last ends; none is longer than ``longest``.
    scale: of the logits. window: most recent tokens that are seen, None for all; where not ``causal``, as many ahead.
    before: contiguous keys and values ``[p, kv_heads, dim]`` that stand before every text, in a forward without backward.
    """

    starts: torch.Tensor
    longest: int
    scale: float
    window: int | None
    causal: bool
    before: tuple[torch.Tensor, torch.Tensor] | None = None


def tiles_ready(*tensors: torch.Tensor) -> bool:
    """Whether `tile_attention` may be given these queries, keys and values: `ready`, a tile unit, and heads of a size that fills tiles."""
    dims = {t.shape[-1] for t in tensors}
    return ready(*tensors) and len(dims) == 1 and dims.pop() % 32 == 0 and _library().has_tiles


def state() -> str:
    """``compiled``, with what for, or why it is not, as ``sortal doctor`` says it."""
    if os.environ.get("SORTAL_NATIVE") == "0":
        return "off (SORTAL_NATIVE=0)"
    if not sys.platform.startswith("linux"):
        return "none (Linux only)"
    if _compiler() is None:
        return "none: no C compiler found; install gcc or clang to train faster on a CPU"
    library = _library()
    if not library:
        return "none: the C compiler could not build them"
    return "compiled, attention in tiles" if library.has_tiles else "compiled"


@functools.cache
def _library() -> Any:
    """The loaded library, or None."""
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
        text = SOURCE.read_bytes() + TILES.read_bytes()
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
    return next(filter(None, map(shutil.which, [named] if named else ["cc", "gcc", "clang"])), None)


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
        pairs += _tried_tiles(library)
    if not all((ours.float() - theirs).abs().max() <= 1e-2 * theirs.abs().max() for ours, theirs in pairs):
        raise OSError("the compiled kernels do not compute what torch does")


@torch.inference_mode(False)
@torch.enable_grad()
def _tried_tiles(library: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Attention of one text of more than a block and its gradients, each beside torch's."""
    tokens, dim = 40, 32
    q, k, v, grad = torch.arange(4 * tokens * dim).mul(0.7).sin().bfloat16().view(4, tokens, 1, dim)
    starts = torch.tensor([0, tokens], dtype=torch.int32)
    texts = Texts(starts, tokens, 0.5, None, True)
    sizes = _sizes(q, k, texts)
    found = [torch.empty_like(q) for _ in range(4)]
    _tile_attention(library, q, k, v, texts, found[0])
    p = 8  # the same with the first keys before the text
    behind = texts._replace(
        starts=starts - starts.new_tensor([0, p]), longest=tokens - p, before=(k[:p], v[:p])
    )
    found_behind = torch.empty_like(q[p:])
    _tile_attention(library, q[p:], k[p:], v[p:], behind, found_behind)
    # ... and as a row below a prompt, whose gradients are only those of the row's queries
    cells, lengths = torch.arange(p, tokens), torch.tensor([tokens - p])
    found_row, row_grad, shared = torch.empty_like(q), grad.clone(), torch.zeros(2, p, 1, dim)
    row_grad[:p] = 0
    states = [t.data_ptr() for t in (q, k, v, k, v)]
    row = (p, cells.data_ptr(), lengths.data_ptr(), 1, tokens - p)
    library.tile_tree_attention(
        *states, *row, cells.data_ptr(), None, tokens - p, 1, 1, dim, 0.5, found_row.data_ptr()
    )
    to_row = [torch.empty_like(q) for _ in range(3)]
    library.tile_tree_attention_backward(
        row_grad.data_ptr(), *states, *row, 1, 1, dim, 0.5, *(t.data_ptr() for t in (*to_row, *shared))
    )
    gradients = [t.data_ptr() for t in found[1:]]
    library.tile_attention_backward(*(t.data_ptr() for t in (grad, q, k, v)), *sizes, *gradients)
    wide = [t.float().transpose(0, 1).requires_grad_() for t in (q, k, v)]
    logits = 0.5 * wide[0] @ wide[1].transpose(1, 2)
    hidden = torch.ones(tokens, tokens).triu(1).bool()
    out = logits.masked_fill(hidden, float("-inf")).softmax(-1) @ wide[2]
    exact = [out.detach(), *torch.autograd.grad(out, wide, grad.float().transpose(0, 1), retain_graph=True)]
    of_row = torch.autograd.grad(out, wide, row_grad.float().transpose(0, 1))
    pairs = [
        *zip(found, exact, strict=True),
        (found_behind, exact[0][:, p:]),
        (found_row[p:], exact[0][:, p:]),
    ]
    pairs += [(ours[p:], theirs[:, p:]) for ours, theirs in zip(to_row, of_row, strict=True)]
    pairs += [(ours, theirs[:, :p]) for ours, theirs in zip(shared, of_row[1:], strict=True)]
    return [(ours.transpose(0, 1), theirs) for ours, theirs in pairs]


def silu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) · up``, tensors of one shape."""
    out = torch.empty_like(gate)
    _library().silu_mul(gate.data_ptr(), up.data_ptr(), out.data_ptr(), gate.numel())
    return out


def silu_mul_backward(
    grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients to gate and up."""
    to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
    pointers = [t.data_ptr() for t in (grad, gate, up, to_gate, to_up)]
    _library().silu_mul_backward(*pointers, gate.numel())
    return to_gate, to_up


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, plus_one: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The norm of x ``[..., hidden]`` and, in fp32, ``rsqrt(mean(x²) + eps)`` of every row."""
    hidden = x.shape[-1]
    rows = x.numel() // hidden
    out, inverse = torch.empty_like(x), torch.empty(rows)
    pointers = [t.data_ptr() for t in (x, weight, out, inverse)]
    _library().rms_norm(*pointers, rows, hidden, eps, plus_one)
    return out, inverse


def rms_norm_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor, plus_one: bool
) -> torch.Tensor:
    """Gradient to x."""
    out = torch.empty_like(x)
    pointers = [t.data_ptr() for t in (grad, x, weight, inverse, out)]
    _library().rms_norm_backward(*pointers, len(inverse), x.shape[-1], plus_one)
    return out


def to_bytes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of x ``[rows, columns]`` as uint8 around 128 and a scale each, bfloat16 ``[rows, 1]``: x is ``(bytes - 128) · scale``, rounded."""
    rows, scales = torch.empty(x.shape, dtype=torch.uint8), x.new_empty(len(x), 1)
    _library().to_bytes(x.data_ptr(), rows.data_ptr(), scales.data_ptr(), *x.shape)
    return rows, scales


def scale_rows_(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """x ``[rows, columns]`` times ``factors`` ``[rows, 1]``, in place."""
    _library().scale_rows(x.data_ptr(), factors.data_ptr(), *x.shape)
    return x


def log_sum_exp(x: torch.Tensor) -> torch.Tensor:
    """``log Σ exp`` of every row of x ``[rows, columns]``, fp32 ``[rows]``."""
    out = torch.empty(len(x))
    _library().log_sum_exp(x.data_ptr(), out.data_ptr(), *x.shape)
    return out


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """``x · cosine + roll(x) · sine`` of x ``[tokens, heads, dim]``; cosine, sine ``[tokens, dim]``."""
    out = torch.empty_like(x)
    _library().rotate(*(t.data_ptr() for t in (x, cosine, sine, out)), *x.shape)
    return out


def to_cells(x: torch.Tensor, group: AttentionGroup, start: int, end: int) -> torch.Tensor:
    """Columns ``start:end`` of a rectangle, ``[rows, heads, end - start, dim]``, from x ``[tokens, heads, dim]``; cells without a token are 0."""
    heads, dim = x.shape[1:]
    out = x.new_empty(group.rows, heads, end - start, dim)
    _move(_library().to_cells, x, out, group, start, end, heads, dim)
    return out


def from_cells(cells: torch.Tensor, group: AttentionGroup, start: int, end: int, out: torch.Tensor) -> None:
    """The way back, into the group's tokens of ``out``."""
    _move(_library().from_cells, cells, out, group, start, end, *out.shape[1:])


def _move(function: Any, source: torch.Tensor, out: torch.Tensor, group: AttentionGroup, *sizes: int) -> None:
    start, end, heads, dim = sizes
    places = (group.scatter.data_ptr(), group.positions.data_ptr(), len(group.scatter))
    function(source.data_ptr(), *places, out.data_ptr(), group.rows, group.width, start, end, heads, dim)


def causal_softmax_(
    logits: torch.Tensor, queries: int, offset: int, window: int | None, scale: float
) -> None:
    """Softmax of ``scale · logits`` in place: ``[batch, rounds of queries, keys]``, query i at place ``offset + i`` among the keys it may see."""
    _library().causal_softmax(
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
    _library().causal_softmax_backward(
        grad.data_ptr(),
        weights.data_ptr(),
        grad.shape[0] * grad.shape[1],
        queries,
        grad.shape[2],
        offset,
        window or NO_WINDOW,
        scale,
    )


def tile_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, texts: Texts, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention inside texts: q ``[tokens, heads, dim]``, k, v ``[tokens, kv_heads, dim]`` → q's shape, in ``out`` where it is given.

    Raises:
        MemoryError: there is none for what a core keeps.
    """
    out = torch.empty_like(q) if out is None else out
    if _tile_attention(_library(), q, k, v, texts, out):
        raise MemoryError
    return out


def _tile_attention(
    library: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, texts: Texts, out: torch.Tensor
) -> int:
    p, before = (len(texts.before[0]), texts.before) if texts.before else (0, (k, v))
    pointers = [t.data_ptr() for t in (q, k, v, *before)]
    failed: int = library.tile_attention(*pointers, p, *_sizes(q, k, texts), out.data_ptr())
    return failed


def tile_attention_backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, texts: Texts
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients to q, k and v; raises as `tile_attention`."""
    found = (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v))
    pointers = [t.data_ptr() for t in (grad, q, k, v)]
    if _library().tile_attention_backward(*pointers, *_sizes(q, k, texts), *(t.data_ptr() for t in found)):
        raise MemoryError
    return found


def tile_tree_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor],
    group: TreeGroup,
    scale: float,
    out: torch.Tensor,
) -> None:
    """Attention of a group's rows below ``prompt``, keys and values ``[p, kv_heads, dim]``, into their tokens of ``out``; no gradients.

    Args:
        q: ``[tokens, heads, dim]``; k, v: ``[places, kv_heads, dim]``, to which ``group.key_gather`` points, or the group's cells.

    Raises:
        MemoryError: as `tile_attention`.
    """
    cells, visible = group.cells, group.visible
    places = cells.gather if group.key_gather is None else group.key_gather
    for indices in (cells.gather, group.lengths, places):
        assert indices.dtype == torch.int64
        assert indices.is_contiguous()
    assert visible is None or visible.is_contiguous()
    failed = _library().tile_tree_attention(
        *(t.data_ptr() for t in (q, k, v, *prompt)),
        len(prompt[0]),
        *(cells.gather.data_ptr(), group.lengths.data_ptr(), cells.rows, cells.width),
        *(places.data_ptr(), None if visible is None else visible.data_ptr(), group.keys),
        *(q.shape[1], k.shape[1], q.shape[2], scale, out.data_ptr()),
    )
    if failed:
        raise MemoryError


def tile_tree_attention_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor],
    group: TreeGroup,
    scale: float,
    to: Sequence[torch.Tensor],
    to_prompt: Sequence[torch.Tensor],
) -> None:
    """Gradients to q, k and v at the tokens of a group whose rows are chains, into ``to``; those to the prompt's keys and values, in fp32, are added.

    Raises:
        MemoryError: as `tile_attention`.
    """
    assert group.visible is None
    cells, gradients = group.cells, (*to, *to_prompt)
    failed = _library().tile_tree_attention_backward(
        *(t.data_ptr() for t in (grad, q, k, v, *prompt)),
        len(prompt[0]),
        *(cells.gather.data_ptr(), group.lengths.data_ptr(), cells.rows, cells.width),
        *(q.shape[1], k.shape[1], q.shape[2], scale),
        *(t.data_ptr() for t in gradients),
    )
    if failed:
        raise MemoryError


def _sizes(q: torch.Tensor, k: torch.Tensor, texts: Texts) -> tuple[Any, ...]:
    starts, longest, scale, window, causal, _ = texts
    assert starts.dtype == torch.int32
    assert starts.is_contiguous()
    count = (starts.data_ptr(), len(starts) - 1, longest)
    return *count, q.shape[1], k.shape[1], q.shape[2], window or NO_WINDOW, causal, scale
