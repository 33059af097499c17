"""Products that answer on a tile unit: weights in the order of tiles beside oneDNN's own layout, and a layer before and behind its attention beside its modules one by one.

    python -m benchmarks.products --threads 1

Frozen weights of several layers in turn, so that none lies in a core's cache, bf16; both sides take turns, and ratios are of the same round in
seconds of CPU. Writes benchmarks/results/products.json and products.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import command
from sortal.backbone import native, native_products

RESULTS = Path(__file__).parent / "results"
ROWS = (25, 200, 800, 2048)
# Hidden and inner sizes and the share of key heads of smollm2-135m and of a billion parameters, and layers; heads of 64.
SHAPES = ((576, 1536, 3, 6), (2048, 8192, 4, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    if not native_products.there():
        parser.error("this machine has no tile unit (AMX), or no compiled kernels: see sortal doctor")
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        rows = [found for shape in SHAPES for found in measured(*shape, arguments.rounds)]
    found = {
        "command": command("products"),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "rows": rows,
    }
    (RESULTS / "products.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "products.md").write_text(page(found))
    print(page(found))


def measured(hidden: int, inner: int, group: int, layers: int, rounds: int) -> list[dict[str, Any]]:
    """Rates of both sides in a gated MLP, in a linear layer and in what a layer does beside attention, for every number of rows."""
    generator = torch.Generator().manual_seed(0)

    def weights(out: int, columns: int) -> list[torch.Tensor]:
        return [
            torch.randn(out, columns, generator=generator).mul_(columns**-0.5).bfloat16()
            for _ in range(layers)
        ]

    keys = hidden // group
    plain = [weights(inner, hidden), weights(inner, hidden), weights(hidden, inner), weights(hidden, hidden)]
    plain += [weights(hidden, hidden), weights(keys, hidden), weights(keys, hidden)]
    norm = native_products.Norm(torch.ones(hidden).bfloat16(), 1e-5)
    blocks = [[torch.ops.mkldnn._reorder_linear_weight(w, 32) for w in kind] for kind in plain]
    tiles = [[native_products.packed(w) for w in kind] for kind in plain]

    def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # type: ignore[no-any-return]

    def blocked_mlp(x: torch.Tensor, layer: int) -> torch.Tensor:
        gate, up, down = (kind[layer] for kind in blocks[:3])
        return product(native.silu_mul(product(x, gate), product(x, up)), down)

    def one_by_one(x: torch.Tensor, turns: torch.Tensor, layer: int) -> torch.Tensor:
        *mlp, project, query, key, value = (kind[layer] for kind in tiles)
        normed, _ = native.rms_norm(x, *norm, False)
        states, other = (native_products.linear(normed, weight) for weight in (query, key))
        native_products.linear(normed, value)
        for heads in (states, other):
            native.rotate(heads.view(len(x), -1, 64), turns, turns)
        between = x + native_products.linear(states, project)
        normed, _ = native.rms_norm(between, *norm, False)
        return between + native_products.mlp(normed, *mlp)

    def together(x: torch.Tensor, turns: torch.Tensor, layer: int) -> torch.Tensor:
        *mlp, project, query, key, value = (kind[layer] for kind in tiles)
        states, *_ = native_products.queries_keys_values(x, norm, (query, key, value), turns, turns)
        return native_products.behind_attention(states, x, project, norm, *mlp)

    found = []
    for count in ROWS:
        x, turns = (torch.randn(count, width, generator=generator).bfloat16() for width in (hidden, 64))
        pairs: dict[str, tuple[str, int, Callable[[int], Any], Callable[[int], Any]]] = {
            "gated MLP": (
                "oneDNN's blocks",
                3 * hidden * inner,
                lambda layer, x=x: blocked_mlp(x, layer),
                lambda layer, x=x: native_products.mlp(x, *(kind[layer] for kind in tiles[:3])),
            ),
            "linear layer": (
                "oneDNN's blocks",
                hidden * hidden,
                lambda layer, x=x: product(x, blocks[3][layer]),
                lambda layer, x=x: native_products.linear(x, tiles[3][layer]),
            ),
            "layer without attention": (
                "its modules in tiles",
                hidden * (3 * inner + 2 * hidden + 2 * keys),
                lambda layer, x=x, turns=turns: one_by_one(x, turns, layer),
                lambda layer, x=x, turns=turns: together(x, turns, layer),
            ),
        }
        for name, (beside, size, theirs, ours) in pairs.items():
            repeats = max(1, ROWS[-1] // count)
            timed = [
                tuple(seconds(side, layers, repeats) for side in (theirs, ours)) for _ in range(rounds + 1)
            ][1:]
            work = 2 * size * count * layers * repeats / 1e9
            ratios = sorted(a / b for a, b in timed)
            found.append(
                {
                    "hidden": hidden,
                    "inner": inner,
                    "part": name,
                    "beside": beside,
                    "rows": count,
                    "gflops_beside": work / statistics.median(a for a, _ in timed),
                    "gflops": work / statistics.median(b for _, b in timed),
                    "ratio": [statistics.median(ratios), ratios[0], ratios[-1]],
                }
            )
    return found


def seconds(layer: Callable[[int], Any], layers: int, repeats: int) -> float:
    """Of CPU, for all layers so many times."""
    began = time.process_time()
    for _ in range(repeats):
        for number in range(layers):
            layer(number)
    return time.process_time() - began


def page(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "# Products that answer on a tile unit",
        "",
        f"`{found['command']}`: frozen weights of several layers in turn, bf16, {found['threads']} threads. "
        "GFLOP/s in seconds of CPU, medians over rounds; ratios of the same round: median (range).",
        "",
        "| hidden × inner | part | rows | beside | its rate | ours | × as fast |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        middle, least, most = row["ratio"]
        lines.append(
            f"| {row['hidden']:,} × {row['inner']:,} | {row['part']} | {row['rows']:,} | {row['beside']} | {row['gflops_beside']:,.0f} | {row['gflops']:,.0f} | {middle:.2f} ({least:.2f} – {most:.2f}) |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
