"""What grows with rows and labels, on a model so small that it is the rest that is measured; and smollm2-135m in several processes.

    python -m benchmarks.scaling --rows 1000,10000,100000 --labels 10,100,1000,5000

Rows: ``sortal train`` (one epoch) and ``sortal predict`` on made-up texts, in processes of their own: seconds of CPU and of the clock for each row, without
the start-up, and peak memory. Labels: the head's training step on the same texts. Processes: the same training run by one process and by two under torchrun,
one thread each. Writes benchmarks/results/scaling.json and scaling.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import command
from benchmarks.speed.children import Children
from benchmarks.speed.sets import save_shape, shape_case

RESULTS = Path(__file__).parent / "results"
SIZES = {"--epochs": "1", "--batch-size": "32", "--set": "n_resamples=100"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="1000,10000,100000", type=numbers)
    parser.add_argument("--labels", default="10,100,1000,5000", type=numbers)
    parser.add_argument("--processes", default="1,2", type=numbers)
    parser.add_argument("--process-rows", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--only", choices=["rows", "labels", "processes"], help="keep what is there of the others"
    )
    arguments = parser.parse_args()
    kept = RESULTS / "scaling.json"
    found = json.loads(kept.read_text()) if arguments.only else {}
    asked = {arguments.only} if arguments.only else {"rows", "labels", "processes"}
    found |= {"threads": arguments.threads, "cores": os.cpu_count()}
    found["commands"] = {**found.get("commands", {}), **dict.fromkeys(sorted(asked), command("scaling"))}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        base = tiny_model(folder / "tiny")
        if "rows" in asked:
            found["rows"] = [by_rows(n, base, folder, arguments.threads) for n in (0, *arguments.rows)]
        if "labels" in asked:
            found["labels"] = [by_labels(n, base, folder, arguments.threads) for n in arguments.labels]
        if "processes" in asked:
            found["processes"] = [
                by_processes(n, arguments.process_rows, folder) for n in arguments.processes
            ]
    (RESULTS / "scaling.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "scaling.md").write_text(page(found))
    print(page(found))


def numbers(given: str) -> list[int]:
    return [int(word) for word in given.split(",") if word]


def tiny_model(folder: Path) -> Path:
    """Two random layers of width 32 behind smollm2-135m's tokenizer."""
    from transformers import AutoTokenizer

    from sortal.backbone.sources import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve("smollm2-135m").path)
    save_shape("tiny", folder, "float32", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, n: int, labels: int = 10) -> Path:
    """Made-up rows of 4 to 20 words, each with words of its label."""
    rng = np.random.default_rng(0)
    words = np.array(
        [f"{a}{b}{c}" for a in "bdfglmnprstvz" for b in "aeiou" for c in ("n", "r", "sk", "lt", "mble")]
    )
    with path.open("w", encoding="utf-8") as file:
        for i in range(n):
            label = i % labels
            text = " ".join(rng.choice(words, rng.integers(4, 20)))
            file.write(
                json.dumps({"text": f"{text} {words[label]} {words[-label]} {i}", "label": f"label {label}"})
                + "\n"
            )
    return path


def measured(words: list[str], threads: int, program: list[str] | None = None) -> dict[str, float]:
    """Seconds of CPU and of the clock, and peak bytes, of one ``sortal WORDS``; of all its processes together, and of the largest."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*(program or [sys.executable, "-m", "sortal"]), *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"sortal {' '.join(words)} failed:\n{said.read().decode()[-2000:]}")
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "cpu": used.ru_utime + used.ru_stime,
        "wall": time.perf_counter() - began,
        "peak_memory_bytes": peak,
    }


def train_words(data: Path, base: Path | str, out: Path) -> list[str]:
    sizes = [word for pair in SIZES.items() for word in pair]
    return [
        "train",
        str(data),
        "--text",
        "text",
        "--label",
        "label",
        "--model",
        str(base),
        "--blend",
        "none",
        *sizes,
        "--out",
        str(out),
    ]


def by_rows(n: int, base: Path, folder: Path, threads: int) -> dict[str, Any]:
    """Training and prediction of ``n`` rows; 0 stands for 200, so few that what they cost is start-up."""
    n = n or 200
    data, out = write_rows(folder / f"rows-{n}.jsonl", n), folder / f"run-{n}"
    trained = measured(train_words(data, base, out), threads)
    answered = measured(
        ["predict", str(out / "model"), str(data), "--out", str(folder / f"answers-{n}.jsonl")], threads
    )
    print(f"{n} rows: {trained['wall']:.0f} s, {answered['wall']:.0f} s", flush=True)
    return {"rows": n, "train": trained, "predict": answered}


def by_labels(n: int, base: Path, folder: Path, threads: int) -> dict[str, Any]:
    """Steps of 32 rows of up to 128 random tokens with ``n`` labels."""
    case = shape_case(base, "tiny", 128, "none", folder / f"labels-{n}", labels=n, steps=12, dtype="float32")
    words = ["-m", "benchmarks.speed.train", "sortal", str(case)]
    found = Children(threads, None).once(folder / f"labels-{n}.json", words)
    return {
        "labels": n,
        "cpu_seconds_per_step": statistics.median(found["cpu_seconds"][1:]),
        "peak_memory_bytes": found["peak_memory_bytes"],
    }


def by_processes(n: int, rows: int, folder: Path) -> dict[str, Any]:
    """The training loop's own seconds of smollm2-135m in ``n`` processes of one thread each."""
    data, out = write_rows(folder / f"processes-{rows}.jsonl", rows), folder / f"processes-{n}"
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
    program = [sys.executable, *(launch if n > 1 else []), "-m", "sortal"]
    used = measured(train_words(data, "smollm2-135m", out), 1, program)
    run = json.loads((out / "run.json").read_text())
    return {"processes": n, **used, "tokens_per_second": run["training"]["tokens_per_second"]}


def page(found: dict[str, Any]) -> str:
    """Markdown."""
    base, *rows = found["rows"]
    lines = [
        "# What grows",
        "",
        f"`{found['commands']['rows']}`: two random layers of width 32, {found['threads']} threads, {found['cores']} cores. Start-up (that of {base['rows']} rows) is taken off.",
        "",
        "| rows | train: ms of CPU a row | peak memory | predict: ms of CPU a row | peak memory |",
        "|---|---|---|---|---|",
    ]
    for one in rows:
        cells = [f"{one['rows']:,}"]
        for verb in ("train", "predict"):
            more = one[verb]["cpu"] - base[verb]["cpu"]
            cells += [
                f"{1000 * more / (one['rows'] - base['rows']):.2f}",
                f"{one[verb]['peak_memory_bytes'] / 1e6:,.0f} MB",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| labels | ms of CPU a step of 32 rows | peak memory |", "|---|---|---|"]
    for one in found["labels"]:
        memory = f"{one['peak_memory_bytes'] / 1e6:,.0f} MB"
        lines.append(f"| {one['labels']:,} | {1000 * one['cpu_seconds_per_step']:.0f} | {memory} |")
    lines += [
        "",
        f"smollm2-135m in processes of one thread each, `{found['commands']['processes']}`:",
        "",
        "| processes | real tokens/s of training | × the first | s, start-up included |",
        "|---|---|---|---|",
    ]
    first = found["processes"][0]["tokens_per_second"]
    for one in found["processes"]:
        rate = one["tokens_per_second"]
        lines.append(f"| {one['processes']} | {rate:,.0f} | {rate / first:.2f} | {one['wall']:.0f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
