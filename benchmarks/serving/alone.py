"""One client and an idle server: the seconds of one text beside those in Python, and memory by the number of models."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

import sortal
from benchmarks.serving.processes import PATIENCE, free_port, sortal_serve, started

COUNTS = (1, 2, 4)


def one_text(model_dir: Path, texts: list[str], core: int | None) -> dict[str, Any]:
    """Median seconds of one text, asked for by HTTP and in Python in turn on the same core, and the largest difference of a probability."""
    port, served, offline, differences = free_port(), [], [], []
    with (
        on_core(core),
        started(sortal_serve([str(model_dir)], port), port, core) as running,
        httpx2.Client(base_url=running.url, timeout=PATIENCE) as client,
    ):
        classifier = sortal.load(model_dir)
        classifier.predict_proba(texts[:1])
        for text in texts:
            began = time.perf_counter()
            reply = client.post("/classify", json={"input": text}).json()
            middle = time.perf_counter()
            expected = classifier.predict_proba([text])[0]
            offline.append(time.perf_counter() - middle)
            served.append(middle - began)
            differences.append(float(abs(expected - reply["data"][0]["probs"]).max()))
    return {
        "texts": len(texts),
        "served_p50_seconds": statistics.median(served),
        "offline_p50_seconds": statistics.median(offline),
        "largest_difference": max(differences),
    }


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """This process on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def memory_of_models(model_dir: Path, core: int | None) -> list[dict[str, Any]]:
    """Bytes of a server with one, two and four models on one base, each with adapters of its own, after the warm-up."""
    found = []
    for count in COUNTS:
        models, port = [f"m{number}={model_dir}" for number in range(count)], free_port()
        with started(sortal_serve(models, port), port, core) as running:
            found.append({"models": count, **running.memory()})
    return found
