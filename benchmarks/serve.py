"""``sortal serve`` under load, beside a plain transformers pipeline behind FastAPI with the same weights.

    pip install -e '.[dev]'
    python -m benchmarks.serve runs/shop/model --texts examples/shop/test.csv --clients 50 --seconds 60 --rounds 2

MODEL_DIR is a ``head`` with pooling ``last``: the one method whose merged folder a pipeline reads. Each client sends one text, waits for its answer and sends
the next. The two servers take turns, A B A B, each in a process of its own that is started and warmed up for its turn; clients run in this process and share
the cores. Reported per turn: answers per second, median and 99th percentile of their seconds, seconds of CPU that the server took
for one (which other work on the machine changes little), other replies and errors, and how much its resident memory grew from the end of the warm-up to the end
of the load. Before the load both answer the same texts, and the largest difference is reported.
Writes benchmarks/results/serve.json and serve.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil

from sortal import model_folder
from sortal.data.reading import read

RESULTS = Path(__file__).parent / "results"
SERVERS = ("sortal serve", "pipeline behind FastAPI")
COMPARED = 64
TIMEOUT = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--texts", default="examples/shop/test.csv", help="data file with a column 'text'")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--note", default="", help="what else the machine did, for the report")
    arguments = parser.parse_args()
    texts = list(read(arguments.texts, text=("text",), need_labels=False, say=lambda line: None).iter_texts())
    turns: list[dict[str, Any]] = []
    answers: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        merge(arguments.model_dir, folder)
        for round_number in range(arguments.rounds):
            for name in SERVERS:
                with started(name, arguments.model_dir, folder) as (url, process):
                    if not round_number:
                        answers[name] = asked(url, texts[:COMPARED])
                    asyncio.run(load(url, texts, arguments.clients, arguments.seconds / 5))
                    memory, work = process.memory_info().rss, cpu_seconds(process)
                    seen = asyncio.run(load(url, texts, arguments.clients, arguments.seconds))
                    turn = seen.figures()
                    turn["cpu_seconds_per_answer"] = (cpu_seconds(process) - work) / max(1, turn["answers"])
                    turn["memory_growth"] = process.memory_info().rss / memory - 1
                turns.append({"server": name, "round": round_number + 1, **turn})
                print(json.dumps(turns[-1]), file=sys.stderr)
    report(arguments, turns, compared(answers))


def merge(model_dir: Path, out: str) -> None:
    """The classifier without adapters, as docs/how-to/load-with-transformers.md makes it: it computes less than one with them."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from sortal.backbone.sources import resolve

    meta = model_folder.read_meta(model_dir)
    if meta["method"] != "head" or meta["pooling"] != "last":
        raise SystemExit(f"{model_dir} is no head with pooling last, which is what a pipeline reads")
    base = resolve(meta["base_model"]["spec"]).path
    config = AutoConfig.from_pretrained(model_dir)
    dtype = getattr(torch, meta["dtype"])
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config, dtype=dtype)
    PeftModel.from_pretrained(model, model_dir).merge_and_unload().save_pretrained(out)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(out)


@contextmanager
def started(name: str, model_dir: Path, merged: str) -> Iterator[tuple[str, psutil.Process]]:
    """One of the servers, ready, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = {
        SERVERS[0]: ["-m", "sortal", "serve", str(model_dir), "--port", port],
        SERVERS[1]: ["-m", "benchmarks.peers.pipeline_server", merged, port],
    }[name]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until_ready(url, process)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            if httpx2.get(f"{url}/ready").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise SystemExit("the server is not ready")


def asked(url: str, texts: list[str]) -> list[dict[str, float]]:
    """Label to score of every text, asked for one by one."""
    with httpx2.Client(base_url=url, timeout=TIMEOUT) as client:
        replies = [client.post("/predict", json={"inputs": text}).json() for text in texts]
    # A pipeline puts the labels of one text into a list of one list, or not, by its version.
    flat = [reply[0] if isinstance(reply[0], list) else reply for reply in replies]
    return [{label["label"]: label["score"] for label in labels} for labels in flat]


def compared(answers: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Agreement of the best labels. Scores are not compared: a pipeline knows no temperature."""
    best = [[max(scores, key=scores.__getitem__) for scores in answers[name]] for name in SERVERS]
    same = [a == b for a, b in zip(*best, strict=True)]
    return {"texts": len(same), "same_label": statistics.mean(same)}


@dataclass
class Seen:
    """What clients saw."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        p50, p99 = np.percentile(self.latencies, (50, 99)) if self.latencies else (None, None)
        return {
            "answers": len(self.latencies),
            "answers_per_second": len(self.latencies) / self.seconds,
            "p50_seconds": p50,
            "p99_seconds": p99,
            "other_replies_and_errors": dict(self.others),
        }


async def load(url: str, texts: list[str], clients: int, seconds: float) -> Seen:
    """Clients that ask one text after the other for so long."""
    seen = Seen()
    began = time.monotonic()
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=url, timeout=TIMEOUT, limits=limits) as client:

        async def ask(number: int) -> None:
            turn = number
            while time.monotonic() - began < seconds:
                turn += clients
                sent = time.monotonic()
                try:
                    reply = await client.post("/predict", json={"inputs": texts[turn % len(texts)]})
                except httpx2.TransportError as error:
                    seen.others[type(error).__name__] += 1
                    continue
                if reply.status_code == 200:
                    seen.latencies.append(time.monotonic() - sent)
                else:
                    seen.others[str(reply.status_code)] += 1

        await asyncio.gather(*(ask(number) for number in range(clients)))
    seen.seconds = time.monotonic() - began
    return seen


def report(arguments: Any, turns: list[dict[str, Any]], agreement: dict[str, float]) -> None:
    rates = {name: [t["answers_per_second"] for t in turns if t["server"] == name] for name in SERVERS}
    ratios = [a / b for a, b in zip(*(rates[name] for name in SERVERS), strict=True)]
    meta = model_folder.read_meta(arguments.model_dir)
    found = {
        "command": f"python -m benchmarks.serve MODEL_DIR --texts {arguments.texts} --clients {arguments.clients} "
        f"--seconds {arguments.seconds:g} --rounds {arguments.rounds}",
        "model": {key: meta[key] for key in ("method", "base_model", "dtype", "max_length", "versions")},
        "cores": len(os.sched_getaffinity(0)),
        "note": arguments.note,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "agreement": agreement,
        "ratios": ratios,
        "turns": turns,
    }
    (RESULTS / "serve.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [
        "# A server under load",
        "",
        f"`{found['command']}`: a head on {meta['base_model']['spec']} ({meta['dtype']}), {arguments.clients} clients that each send one text of {arguments.texts}, "
        f"wait and send the next, for {arguments.seconds:g} seconds; {found['cores']} core(s), which the clients share. "
        f"{arguments.note + ' ' if arguments.note else ''}Absolute figures mean something on this machine only.",
        "",
        "| round | server | answers/s | p50, s | p99, s | CPU s / answer | other replies, errors | memory growth |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {t['round']} | {t['server']} | {t['answers_per_second']:.1f} | {t['p50_seconds']:.3f} | {t['p99_seconds']:.3f} "
        f"| {t['cpu_seconds_per_answer']:.4f} | {sum(t['other_replies_and_errors'].values())} | {100 * t['memory_growth']:+.1f} % |"
        for t in turns
    ]
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    lines += [
        "",
        f"Answers per second, {SERVERS[0]} over {SERVERS[1]}, by round: {shown}. The best label is the same for {100 * agreement['same_label']:.1f} % "
        f"of {agreement['texts']} texts.",
    ]
    (RESULTS / "serve.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
