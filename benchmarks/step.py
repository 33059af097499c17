"""What each part of the training step gains: padded and unfused, as common scripts run it, against packed and fused.

    python -m benchmarks.step --rounds 6

The same optimiser steps (32 texts of the shop corpus each, LoRA r = 8 on all projections, same weights) run through four variants in turn,
A B C D A B C D, in one process; on a CPU also with compiled kernels and with attention in tiles where it has them, on a GPU also as CUDA graphs. Reported: median seconds per step, real tokens per second, and utilisation: 4 · N · tokens / seconds over the
rate of a large matrix product measured in the same process. Writes benchmarks/results/step.json and step.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from sortal.backbone import loading, native
from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.lora import add_lora, fuse, layer_index, trainable
from sortal.backbone.packing import pack
from sortal.backbone.sources import resolve
from sortal.config import build_config
from sortal.data.reading import read
from sortal.methods.head_model import HeadModel
from sortal.methods.text_folder import make_encoder
from sortal.training.graphs import StepGraphs
from sortal.training.losses import Loss
from sortal.training.objective import Classification

ROOT = Path(__file__).parents[1]
VARIANTS = ("padded, SDPA, peft", "packed, peft", "packed, fused LoRA", "packed, fused LoRA, norms and MLP")
COMPILED = "packed, fused LoRA, norms and MLP, compiled kernels"
TILES = COMPILED + ", attention in tiles"
GRAPHS = "packed, fused LoRA, norms and MLP, CUDA graphs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = build_config({"model": arguments.model})
    path = resolve(arguments.model).path
    encoder = make_encoder(path, config)
    shop = read(ROOT / "examples/shop/train.csv", label="intent", say=lambda line: None)
    texts = list(encoder.encode(shop.iter_texts()))
    steps = [
        texts[i * arguments.batch_size : (i + 1) * arguments.batch_size] for i in range(arguments.rounds + 1)
    ]
    library = native.library()
    names = [*VARIANTS, GRAPHS] if device.type == "cuda" else list(VARIANTS)
    if device.type == "cpu" and library:
        names += [COMPILED, TILES] if library.has_tiles else [COMPILED]
    models = {name: network(name, path, encoder, config, device) for name in names}
    graphs = recorded(models[GRAPHS], steps, device) if GRAPHS in models else None
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    for round_number, rows in enumerate(steps):
        for name, model in models.items():
            if name == GRAPHS:
                taken, loss = replayed(graphs, round_number * len(rows), len(rows))
            elif name == TILES:
                taken, loss = step(model, rows, device)
            elif name == COMPILED:
                with patch.object(library, "has_tiles", False):
                    taken, loss = step(model, rows, device)
            else:
                with patch.object(native, "library", lambda: None):
                    taken, loss = step(model, rows, device)
            if round_number:  # the first round warms up
                seconds[name].append(taken)
                losses[name].append(loss)
    tokens = statistics.median(sum(map(len, rows)) for rows in steps[1:])
    weights = sum(
        p.numel()
        for n, p in models[VARIANTS[0]].inner.named_parameters()
        if layer_index(n) is not None and "lora" not in n and p.dim() == 2
    )
    peak = matrix_rate(models[VARIANTS[0]].inner.dtype, device)
    report(seconds, losses, tokens, weights, peak, arguments)


def network(name: str, path: str, encoder: Any, config: Any, device: torch.device) -> HeadModel:
    settings = loading.load_config(path)
    settings.num_labels, settings.pad_token_id = 12, encoder.tokenizer.pad_token_id
    torch.manual_seed(0)
    dtype = loading.choose_dtype("auto", device)
    classifier = loading.load_classifier(path, settings, dtype=dtype, device=device)
    packed = name.startswith("packed") and loading.enable_packing(classifier)
    model = add_lora(classifier, config)
    if "fused" in name:
        fuse(model)
    if name.endswith("fused LoRA"):
        for module in model.modules():
            if "forward" in module.__dict__ and not hasattr(module, "lora_A"):
                del module.__dict__["forward"]
    return HeadModel(model, packed)


def step(model: HeadModel, rows: list[Any], device: torch.device) -> tuple[float, float]:
    model.zero_grad()
    began = time.perf_counter()
    logits = model(pack(rows).to(device))
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(rows), device=device) % logits.shape[1])
    loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, float(loss.detach())


def recorded(model: HeadModel, steps: list[list[Any]], device: torch.device) -> StepGraphs:
    """Graphs of all pack sizes among ``steps``: the first visit of a size runs it, the second records it."""
    rows = [row for step in steps for row in step]
    flat = np.concatenate([np.asarray(row, np.int32) for row in rows])
    texts = EncodedTexts(flat, np.concatenate([[0], np.cumsum([len(row) for row in rows])]), 0)
    targets = torch.arange(len(texts)) % len(steps[0]) % model.labels
    objective = Classification(model, texts, targets, Loss("single"), device)  # type: ignore[arg-type]
    graphs = StepGraphs(objective, list(trainable(model).values()), len(steps[0]), print)
    for _ in range(2):
        for start in range(0, len(texts), len(steps[0])):
            rows = np.arange(start, start + len(steps[0]))
            if graphs.backward(rows, 1 / len(rows)) is None:
                (objective.losses(rows).sum() / len(rows)).backward()
    return graphs


def replayed(graphs: StepGraphs, start: int, n: int) -> tuple[float, float]:
    began = time.perf_counter()
    value = graphs.backward(np.arange(start, start + n), 1 / n)
    torch.cuda.synchronize()
    assert value is not None, "a size was met that is not recorded"
    return time.perf_counter() - began, float(value)


def matrix_rate(dtype: torch.dtype, device: torch.device, size: int = 2048) -> float:
    """FLOP/s of a size³ product."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    rates = []
    for _ in range(12):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        rates.append(2 * size**3 / (time.perf_counter() - began))
    return statistics.median(rates)


def report(
    seconds: dict[str, list[float]],
    losses: dict[str, list[float]],
    tokens: float,
    weights: int,
    peak: float,
    arguments: Any,
) -> None:
    first = VARIANTS[0]
    rows = []
    for name in seconds:
        ratios = [a / b for a, b in zip(seconds[first], seconds[name], strict=True)]
        median = statistics.median(seconds[name])
        rows.append(
            {
                "variant": name,
                "seconds_per_step": round(median, 4),
                "real_tokens_per_second": round(tokens / median, 1),
                "utilisation": round(4 * weights * tokens / median / peak, 4),
                "speedup": round(statistics.median(ratios), 3),
                "speedup_range": [round(min(ratios), 3), round(max(ratios), 3)],
                "largest_loss_difference": round(
                    max(abs(a - b) for a, b in zip(losses[first], losses[name], strict=True)), 5
                ),
            }
        )
    result = {
        "command": f"python -m benchmarks.step --model {arguments.model} --rounds {arguments.rounds} --batch-size {arguments.batch_size}",
        "tokens_per_step": tokens,
        "linear_weights": weights,
        "matrix_product_flops": peak,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
    }
    out = Path(__file__).parent / "results"
    (out / "step.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        "# The training step, part by part",
        "",
        f"`{result['command']}`: {arguments.model}, median of {arguments.rounds} steps of {arguments.batch_size} texts (median {tokens:.0f} real tokens), "
        f"{result['threads']} threads, {peak / 1e9:,.0f} GFLOP/s in a large matrix product. An absolute figure means something on this machine only.",
        "",
        "| variant | s / step | real tokens/s | utilisation | against the first (range) | largest difference in loss |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        low, high = r["speedup_range"]
        lines.append(
            f"| {r['variant']} | {r['seconds_per_step']:.3f} | {r['real_tokens_per_second']:,.0f} | {100 * r['utilisation']:.0f} % "
            f"| {r['speedup']:.2f}× ({low:.2f}–{high:.2f}) | {r['largest_loss_difference']:.4f} |"
        )
    (out / "step.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
