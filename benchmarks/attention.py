"""Attention of a pack on a CPU: query blocks, the whole rectangle, and torch's own SDPA, by length of the rows.

    python -m benchmarks.attention --threads 1

2,048 tokens of equal rows, the heads of smollm2-135m (9 and 3 of 64), bf16; variants take turns, and the fewest seconds of CPU of --rounds are reported: for forward
alone, and with backward. Writes benchmarks/results/attention.json and attention.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.command import command
from sortal.backbone import rectangles
from sortal.backbone.packing import AttentionGroup, pack
from sortal.backbone.rectangles import block_size, rectangle

RESULTS = Path(__file__).parent / "results"
TOKENS, HEADS, KV_HEADS, DIM = 2048, 9, 3, 64
WIDTHS = (32, 64, 128, 256, 512, 1024)

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, AttentionGroup], torch.Tensor]


def blocks(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
    rectangles.block_size = block_size
    return rectangle(q, k, v, group, DIM**-0.5, None, None)


def whole(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
    rectangles.block_size = lambda width: width
    try:
        return rectangle(q, k, v, group, DIM**-0.5, None, None)
    finally:
        rectangles.block_size = block_size


def sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
    rows = (t.view(group.rows, group.width, t.shape[1], DIM).transpose(1, 2) for t in (q, k, v))
    out = F.scaled_dot_product_attention(*rows, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2).reshape(-1, HEADS, DIM)


VARIANTS: dict[str, Attend] = {"blocks": blocks, "whole": whole, "SDPA": sdpa}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [measured(width, arguments.rounds) for width in WIDTHS]
    found = {
        "command": command("attention"),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "rows": rows,
    }
    (RESULTS / "attention.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "attention.md").write_text(page(found))
    print(page(found))


def measured(width: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of CPU of every variant on rows of ``width`` tokens."""
    group = pack([[0] * width] * (TOKENS // width)).groups[0]
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(TOKENS, heads, DIM, generator=generator).bfloat16().requires_grad_()
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]
    least: dict[str, dict[str, float]] = {name: {"forward": 1e9, "with_backward": 1e9} for name in VARIANTS}
    for number in range(rounds + 1):
        for name, attend in VARIANTS.items():
            with torch.inference_mode():
                began = time.process_time()
                attend(*inputs, group)
                forward = time.process_time() - began
            began = time.process_time()
            out = attend(*inputs, group)
            out.backward(torch.ones_like(out))
            both = time.process_time() - began
            if number:  # the first round warms up
                best = least[name]
                best["forward"] = min(best["forward"], 1000 * forward)
                best["with_backward"] = min(best["with_backward"], 1000 * both)
    return {"width": width, "milliseconds": least}


def page(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "# Attention of a pack on a CPU",
        "",
        f"`{found['command']}`: {TOKENS:,} tokens in rows of one length, {HEADS} heads on {KV_HEADS} key heads of {DIM}, bf16, {found['threads']} threads. "
        "Fewest milliseconds of CPU: forward alone, and with backward.",
        "",
        "| tokens of a row | " + " | ".join(VARIANTS) + " |",
        "|---|" + "---|" * len(VARIANTS),
    ]
    for row in found["rows"]:
        cells = [
            f"{row['milliseconds'][name]['forward']:.1f}, {row['milliseconds'][name]['with_backward']:.1f}"
            for name in VARIANTS
        ]
        lines.append(f"| {row['width']:,} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
