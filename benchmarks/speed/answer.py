"""One side's answers in a process of its own: ``python -m benchmarks.speed.answer SIDE MODEL_FOLDER TEXTS`` prints labels and times as a line of JSON.

SIDE is ``sortal`` (a run's model folder), ``int8`` (the same with 8-bit weights) or ``pipeline`` (the same model exported for transformers). TEXTS is a JSON file with a list.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sortal.training.budget import peak_memory

ALONE = 32
BATCH = 32

Ask = Callable[[list[str]], list[str]]


def sortal(folder: Path, weights: str = "saved") -> Ask:
    """The likeliest label of every text."""
    from sortal import load

    classifier = load(folder, weights=weights)

    def ask(texts: list[str]) -> list[str]:
        return [classifier.classes_[best] for best in classifier.predict_proba(texts).argmax(1)]

    return ask


def pipeline(folder: Path) -> Ask:
    """The same by ``pipeline("text-classification")``, in batches."""
    import transformers

    classify: Any = transformers.pipeline(
        "text-classification",
        model=str(folder),
        batch_size=BATCH,
        device=0 if torch.cuda.is_available() else "cpu",
    )
    return lambda texts: [answer["label"] for answer in classify(texts, truncation=True)]


SIDES = {"sortal": sortal, "int8": partial(sortal, weights="int8"), "pipeline": pipeline}


def main() -> None:
    side, folder, texts = sys.argv[1], Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
    ask = SIDES[side](folder)
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
                "peak_memory_bytes": peak_memory(
                    torch.device("cuda" if torch.cuda.is_available() else "cpu")
                ),
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
