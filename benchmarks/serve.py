"""``sortal serve`` under load, beside a plain transformers pipeline behind FastAPI with the same weights.

    pip install -e '.[dev]'
    python -m benchmarks.serve runs/shop/model --texts examples/shop/test.csv --clients 50 --seconds 60 --rounds 2

MODEL_DIR is a ``head`` with pooling ``last`` and ``--blend none``: the one method whose merged folder a pipeline reads. Each client sends one text, waits for its answer and sends
the next. The two servers take turns, A B A B, each in a process of its own that is started and warmed up for its turn; clients run in this process
(``--server-core`` and ``--client-core`` keep the two apart). Reported per turn: answers per second, median and 99th percentile of their seconds, seconds of CPU
that the server took for one (which other work on the machine changes little), other replies and errors, and how much its resident memory grew from the end of
the warm-up to the end of the load. Before the load both answer the same texts, and their labels are compared.

Then ``sortal serve`` alone: one text on an idle server beside the same text in Python; memory with one, two and four models on one base; SIGKILL under load and
a new start; SIGTERM under load. Writes benchmarks/results/serve.json and serve.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.serving.alone import memory_of_models, on_core, one_text
from benchmarks.serving.clients import load, scores
from benchmarks.serving.faults import asked_to_stop, killed_and_restarted
from benchmarks.serving.processes import free_port, sortal_serve, started
from benchmarks.serving.words import page
from sortal import model_folder
from sortal.data.reading import read

RESULTS = Path(__file__).parent / "results"
SERVERS = ("sortal serve", "pipeline behind FastAPI")
COMPARED = 64
ALONE = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--texts", default="examples/shop/test.csv", help="data file with a column 'text'")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--server-core", type=int, help="the only core of the servers")
    parser.add_argument("--client-core", type=int, help="the only core of the clients")
    parser.add_argument("--note", default="", help="what else the machine did, for the report")
    arguments = parser.parse_args()
    texts = list(read(arguments.texts, text=("text",), need_labels=False, say=lambda line: None).iter_texts())
    model_dir, core = arguments.model_dir, arguments.server_core
    with on_core(arguments.client_core):
        turns, agreement = beside_a_pipeline(arguments, texts)
        found = {
            "one_text": one_text(model_dir, texts[:ALONE], core),
            "memory": memory_of_models(model_dir, core),
            "killed": killed_and_restarted(model_dir, texts, core),
            "stopped": asked_to_stop(model_dir, texts, core),
        }
    rates = {name: [t["answers_per_second"] for t in turns if t["server"] == name] for name in SERVERS}
    meta = model_folder.read_meta(model_dir)
    results = {
        "command": f"python -m benchmarks.serve MODEL_DIR --texts {arguments.texts} --clients {arguments.clients} "
        f"--seconds {arguments.seconds:g} --rounds {arguments.rounds}"
        + "".join(
            f" --{side}-core {at}"
            for side in ("server", "client")
            if (at := getattr(arguments, f"{side}_core")) is not None
        ),
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "texts": arguments.texts,
        "model": {key: meta[key] for key in ("method", "base_model", "dtype", "max_length", "versions")},
        "cores": len(os.sched_getaffinity(0)),
        "note": arguments.note,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "agreement": agreement,
        "ratios": [a / b for a, b in zip(*(rates[name] for name in SERVERS), strict=True)],
        "turns": turns,
        **found,
    }
    (RESULTS / "serve.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "serve.md").write_text(page(results))
    print(page(results))


def beside_a_pipeline(arguments: Any, texts: list[str]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The turns of both servers, and how far they agree."""
    turns: list[dict[str, Any]] = []
    answers: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        merge(arguments.model_dir, folder)
        for number in range(arguments.rounds):
            for name in SERVERS:
                port = free_port()
                words = (
                    sortal_serve([str(arguments.model_dir)], port)
                    if name == SERVERS[0]
                    else ["benchmarks.peers.pipeline_server", folder, str(port)]
                )
                with started(words, port, arguments.server_core) as running:
                    if not number:
                        answers[name] = [scores(running.url, text) for text in texts[:COMPARED]]
                    asyncio.run(load(running.url, texts, arguments.clients, arguments.seconds / 3))
                    memory, work = running.memory()["resident"], running.cpu_seconds()
                    seen = asyncio.run(load(running.url, texts, arguments.clients, arguments.seconds))
                    turn = seen.figures()
                    turn["cpu_seconds_per_answer"] = (running.cpu_seconds() - work) / max(1, turn["answers"])
                    turn["memory_growth"] = running.memory()["resident"] / memory - 1
                turns.append({"server": name, "round": number + 1, **turn})
                print(json.dumps(turns[-1]), file=sys.stderr)
    return turns, compared(answers)


def merge(model_dir: Path, out: str) -> None:
    """The classifier without adapters, as docs/how-to/load-with-transformers.md makes it: it computes less than one with them."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from sortal.backbone.sources import resolve

    meta = model_folder.read_meta(model_dir)
    if meta["method"] != "head" or meta["pooling"] != "last" or "blend" in meta:
        raise SystemExit(
            f"{model_dir} is no head alone (--blend none) with pooling last, which is what a pipeline reads"
        )
    base = resolve(meta["base_model"]["spec"]).path
    config = AutoConfig.from_pretrained(model_dir)
    dtype = getattr(torch, meta["dtype"])
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config, dtype=dtype)
    PeftModel.from_pretrained(model, model_dir).merge_and_unload().save_pretrained(out)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(out)


def compared(answers: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Agreement of the best labels. Scores are not compared: a pipeline knows no temperature."""
    best = [[max(one, key=one.__getitem__) for one in answers[name]] for name in SERVERS]
    same = [a == b for a, b in zip(*best, strict=True)]
    return {"texts": len(same), "same_label": statistics.mean(same)}


if __name__ == "__main__":
    main()
