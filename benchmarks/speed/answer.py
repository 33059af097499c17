"""One side's answers in a process of its own: ``python -m benchmarks.speed.answer SIDE MODEL_FOLDER TEXTS`` prints labels and times as a line of JSON.

SIDE is ``sortal`` (a run's model folder), ``int8`` (the same with 8-bit weights) or ``pipeline`` (the same model exported for transformers). TEXTS is a JSON file with a list.
``python -m benchmarks.speed.answer in-turn MODEL_FOLDER EXPORTED_FOLDER TEXTS`` has two sides in one process, which take slices of the texts in turn: a machine
that changes its speed does so for both.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.train import linear_weights
from sortal.training.budget import peak_memory

ALONE = 32
BATCH = 32
SLICE, ROUNDS = 64, 3

Ask = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Side:
    """ask: the likeliest label of every text. tokens: that it reads of a text, padding left out."""

    ask: Ask
    tokens: Callable[[list[str]], int]
    linear_weights: int


def sortal(folder: Path, weights: str = "saved") -> Side:
    """A run's model folder."""
    from sortal import load

    classifier: Any = load(folder, weights=weights)
    scorer = classifier.scorer

    def ask(texts: list[str]) -> list[str]:
        return [classifier.classes_[best] for best in classifier.predict_proba(texts).argmax(1)]

    return Side(ask, lambda texts: int(scorer.encode(texts).lengths.sum()), linear_weights(scorer.model))


def pipeline(folder: Path) -> Side:
    """The same model by ``pipeline("text-classification")``, in batches."""
    import transformers

    classify: Any = transformers.pipeline(
        "text-classification",
        model=str(folder),
        batch_size=BATCH,
        device=0 if torch.cuda.is_available() else "cpu",
    )
    return Side(
        lambda texts: [answer["label"] for answer in classify(texts, truncation=True)],
        lambda texts: sum(map(len, classify.tokenizer(texts, truncation=True)["input_ids"])),
        linear_weights(classify.model),
    )


SIDES = {"sortal": sortal, "int8": partial(sortal, weights="int8"), "pipeline": pipeline}


def in_turn(folder: Path, exported: Path, texts: list[str]) -> dict[str, list[float]]:
    """Seconds of CPU of both sides for every slice of the texts, several times."""
    sides = {"sortal": sortal(folder).ask, "pipeline": pipeline(exported).ask}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for ask in sides.values():
        ask(texts[:BATCH])  # warm-up
    for start in [*range(0, len(texts), SLICE)] * ROUNDS:
        for name, ask in sides.items():
            began = time.process_time()
            ask(texts[start : start + SLICE])
            found[name].append(time.process_time() - began)
    return found


def main() -> None:
    name, *folders = sys.argv[1], *map(Path, sys.argv[2:-1])
    texts = json.loads(Path(sys.argv[-1]).read_text())
    if name == "in-turn":
        print(json.dumps(in_turn(*folders, texts)))
        return
    side = SIDES[name](folders[0])
    ask = side.ask
    ask(texts[:BATCH])  # warm-up
    began, cpu = time.perf_counter(), time.process_time()
    labels = ask(texts)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    alone, alone_cpu = [], []
    for text in texts[:ALONE]:
        began, cpu = time.perf_counter(), time.process_time()
        ask([text])
        alone.append(time.perf_counter() - began)
        alone_cpu.append(time.process_time() - cpu)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "one_text_seconds": statistics.median(alone),
                "one_text_cpu_seconds": statistics.median(alone_cpu),
                "labels": labels,
                "tokens": side.tokens(texts),
                "linear_weights": side.linear_weights,
                "peak_memory_bytes": peak_memory(
                    torch.device("cuda" if torch.cuda.is_available() else "cpu")
                ),
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
