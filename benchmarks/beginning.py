"""A step whose texts all begin alike: the beginning read with every text, and once per microbatch.

    python -m benchmarks.beginning --rounds 5

The same optimiser steps (16 texts of the shop corpus each, alone and five in a row; LoRA r = 8 on all projections) with beginnings of
several lengths, whole rows and shared rows in turn in one process, in microbatches of at most 2,048 tokens. The longest is as long as
what lists the 77 names of Banking77. Reported: the median of both, and of their ratio. Writes benchmarks/results/beginning.json and .md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command import command
from sortal.backbone import loading
from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.packing import microbatches
from sortal.backbone.sources import resolve
from sortal.config import build_config
from sortal.data.reading import read
from sortal.methods.head_model import HeadModel, tunable
from sortal.methods.text_folder import make_encoder
from sortal.training.losses import Loss
from sortal.training.objective import Classification

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
LENGTHS = (4, 16, 32, 64, 128, 330)
TEXTS, LABELS, MAX_TOKENS = 16, 12, 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = build_config({"model": arguments.model})
    path = resolve(arguments.model).path
    shop = read(ROOT / "examples/shop/train.csv", label="intent", say=lambda line: None).texts
    encoder = make_encoder(path, config)
    model = network(path, encoder, config, device)
    rows = []
    for joined in (1, 5):
        wanted = (arguments.rounds + 1) * TEXTS
        texts = [" ".join(shop[i + j] for j in range(joined)) for i in range(wanted)]
        for length in LENGTHS:
            beginning = tuple(np.random.default_rng(0).integers(0, 1000, length).tolist())
            template = replace(encoder.template, prefix=beginning)
            kept = replace(encoder, template=template, max_length=encoder.max_length + length)
            both = {shared: replace(kept, shared=shared).encode(texts) for shared in (False, True)}
            rows.append(measured(model, both, arguments.rounds, device))
            print(rows[-1], flush=True)
    found = {
        "command": command("beginning"),
        "model": arguments.model,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "x86_64",
        "threads": arguments.threads,
        "rows": rows,
    }
    (RESULTS / "beginning.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "beginning.md").write_text(markdown(found))


def network(path: str, encoder: Any, config: Any, device: torch.device) -> HeadModel:
    """With adapters."""
    settings = loading.load_config(path)
    settings.num_labels, settings.pad_token_id = LABELS, encoder.tokenizer.pad_token_id
    torch.manual_seed(0)
    dtype = loading.choose_dtype("auto", device)
    return tunable(loading.load_classifier(path, settings, dtype=dtype, device=device), config)


def measured(
    model: HeadModel, both: dict[bool, EncodedTexts], rounds: int, device: torch.device
) -> dict[str, Any]:
    """Seconds per step of whole and shared rows, in turn; the first round warms up."""
    gold = np.arange(len(both[True])) % LABELS
    objectives = {
        shared: Classification(model, texts, gold, Loss("single"), device)  # type: ignore[arg-type]
        for shared, texts in both.items()
    }
    seconds: dict[bool, list[float]] = {False: [], True: []}
    losses: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds + 1):
        batch = np.arange(number * TEXTS, (number + 1) * TEXTS)
        for shared, objective in objectives.items():
            taken, loss = step(model, objective, batch, device)
            if number:
                seconds[shared].append(taken)
                losses[shared].append(loss)
    ratios = [a / b for a, b in zip(seconds[False], seconds[True], strict=True)]
    return {
        "beginning": len(both[True].beginning),
        "text": int(np.median(both[True].lengths)),
        "whole": round(statistics.median(seconds[False]), 4),
        "shared": round(statistics.median(seconds[True]), 4),
        "ratio": [round(f(ratios), 3) for f in (statistics.median, min, max)],
        "loss_difference": round(
            max(abs(a - b) for a, b in zip(losses[False], losses[True], strict=True)), 5
        ),
    }


def step(
    model: HeadModel, objective: Classification, batch: np.ndarray[Any, Any], device: torch.device
) -> tuple[float, float]:
    """Seconds and mean loss of one step's forward and backward passes."""
    model.zero_grad()
    room = MAX_TOKENS - objective.shared_tokens
    began, total = time.perf_counter(), 0.0
    for part in microbatches(objective.lengths[batch].tolist(), room):
        loss = objective.losses(batch[part]).sum() / len(batch)
        loss.backward()
        total += float(loss.detach())
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, total


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "# Texts that all begin alike: the beginning with every text, and once per microbatch",
        "",
        f"`{found['command']}`: method head on {found['model']}, steps of {TEXTS} texts, {found['device']}, {found['threads']} thread(s). Medians of steps in turn; an absolute figure means something on this machine only.",
        "",
        "| tokens of the beginning | of a text, median | s / step, with every text | once | times as fast (range) | largest difference in loss |",
        "|---|---|---|---|---|---|",
    ]
    for r in found["rows"]:
        middle, low, high = r["ratio"]
        lines.append(
            f"| {r['beginning']} | {r['text']} | {r['whole']:.3f} | {r['shared']:.3f} | {middle:.2f} ({low:.2f}–{high:.2f}) | {r['loss_difference']:.4f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
