"""What ``sortal predict`` costs before and around one answer, part by part; beside an earlier revision if one is named.

    python -m benchmarks.startup --model RUN/model --model OTHER/model --against HEAD~5 --repeats 5

The parts are those of the first model, a decoder's. Every measurement is a process of its own; revisions take turns, A B A B. Seconds of CPU are reported beside seconds of the clock: on a machine with other
work only the former mean something. Writes benchmarks/results/startup.json and startup.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.command import command

ROOT = Path(__file__).parents[1]
TEXT = "where is my parcel"

# Runs in a fresh interpreter with one revision's sources; prints CPU seconds of each part.
PARTS = """
import json, sys, time
try:
    from sortal.backbone.collector import own_process, paused
except ImportError:  # a revision without
    from contextlib import nullcontext as paused
else:
    own_process()
def part(name, since):
    now = time.process_time()
    parts[name] = now - since
    return now
parts, began = {}, time.process_time()
with paused():  # as the command does
    import torch
    began = part("import torch", began)
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    began = part("import transformers' registries", began)
    import transformers.models.llama.modeling_llama
    began = part("import transformers' Llama", began)
    from sortal.methods import get_method
    from sortal import load
    import sortal.bulk.scoring, sortal.bulk.formats
    get_method(json.load(open(sys.argv[1] + "/sortal.json"))["method"])
    began = part("import Sortal", began)
classifier = load(sys.argv[1])
began = part("load the model", began)
classifier.predict([sys.argv[2]])
part("first answer", began)
print(json.dumps(parts))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, action="append", required=True, help="model folders of finished runs"
    )
    parser.add_argument(
        "--against", default=None, metavar="REVISION", help="a git revision to measure in turn"
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = {"now": ROOT / "src"}
        if arguments.against:
            sources = {arguments.against: unpacked(arguments.against, Path(folder)), **sources}
        commands = {
            "sortal --help": ["-m", "sortal", "--help"],
            **{answer_of(model): ["-m", "sortal", "predict", str(model), "-"] for model in arguments.model},
        }
        seconds: dict[str, dict[str, list[tuple[float, float]]]] = {
            name: {label: [] for label in sources} for name in commands
        }
        parts: dict[str, list[dict[str, float]]] = {label: [] for label in sources}
        for number in range(arguments.repeats + 1):
            for label, source in sources.items():
                for name, words in commands.items():
                    taken = timed(words, source)
                    if number:  # the first round fills the disk's cache
                        seconds[name][label].append(taken)
                out = python(["-c", PARTS, str(arguments.model[0]), TEXT], source)
                if number:
                    parts[label].append(json.loads(out.splitlines()[-1]))
    first = answer_of(arguments.model[0])
    report(command("startup", without=("--model",)), seconds, parts, first, arguments.repeats)


def answer_of(model: Path) -> str:
    """What a row about one text is called: by the method, and by what is blended with it."""
    meta = json.loads((model / "sortal.json").read_text(encoding="utf-8"))
    return "sortal predict, one text: " + "+".join([meta["method"], *meta.get("blend", ())])


def unpacked(revision: str, folder: Path) -> Path:
    """The sources of a git revision, below ``folder``."""
    archive = subprocess.run(
        ["git", "archive", revision, "src"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder / "src"


def python(words: list[str], source: Path) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        input=f"{TEXT}\n",
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def timed(words: list[str], source: Path) -> tuple[float, float]:
    """Seconds of CPU and of the clock of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    python(words, source)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def report(
    words: str,
    seconds: dict[str, dict[str, list[tuple[float, float]]]],
    parts: dict[str, list[dict[str, float]]],
    first: str,
    repeats: int,
) -> None:
    result: dict[str, Any] = {
        "command": words,
        "seconds": {
            name: {
                label: {"cpu": [round(c, 3) for c, _ in found], "wall": [round(w, 3) for _, w in found]}
                for label, found in by_label.items()
            }
            for name, by_label in seconds.items()
        },
        "parts_cpu_seconds": {
            label: {name: round(statistics.median(one[name] for one in found), 3) for name in found[0]}
            for label, found in parts.items()
        },
    }
    labels = list(parts)
    lines = [
        "# Start-up",
        "",
        f"`{words}`: medians of {repeats} processes, seconds of CPU (range); of the clock in brackets.",
        "",
        "| | " + " | ".join(labels) + " |",
        "|---|" + "---|" * len(labels),
    ]
    for name, by_label in seconds.items():
        cells = []
        for label in labels:
            cpu, wall = zip(*by_label[label], strict=True)
            cells.append(
                f"{statistics.median(cpu):.2f} ({min(cpu):.2f} – {max(cpu):.2f}) [{statistics.median(wall):.2f}]"
            )
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    for name in parts[labels[0]][0]:
        cells = [f"{result['parts_cpu_seconds'][label][name]:.2f}" for label in labels]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    rest = [
        statistics.median(cpu for cpu, _ in seconds[first][label])
        - sum(result["parts_cpu_seconds"][label].values())
        for label in labels
    ]
    lines.append(
        "| the command line, and the end of the process | " + " | ".join(f"{s:.2f}" for s in rest) + " |"
    )
    lines += [
        "",
        f"The parts are those of `{first}`, measured in order in one process: what an earlier one imported costs a later one nothing. "
        "The last row is what remains of the command's seconds.",
        "",
    ]
    out = Path(__file__).parent / "results"
    (out / "startup.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "startup.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
