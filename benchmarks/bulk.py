"""``sortal predict`` over files of growing length: rows per second and peak memory.

    sortal train examples/shop/train.csv --text text --label intent --method tfidf --out runs/shop-tfidf
    python -m benchmarks.bulk runs/shop-tfidf/model --texts examples/shop/test.csv --rows 10000 100000 1000000

The model is best a ``tfidf``, whose own memory is small and does not depend on the texts. The texts of the file are repeated, each with its
number behind it. Every length is predicted in a process of its own, from CSV to CSV; its memory is the peak of its resident set (VmHWM),
its seconds are split into those before the first finished shard (imports, loading, reading the whole file once) and those after it.
Writes benchmarks/results/bulk.json and bulk.md.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.command import command
from sortal import model_folder
from sortal.data.reading import read

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--texts", default="examples/shop/test.csv", help="data file with a column 'text'")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--note", default="", help="what else the machine did, for the report")
    arguments = parser.parse_args()
    texts = list(read(arguments.texts, text=("text",), need_labels=False, say=lambda line: None).iter_texts())
    found = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            given, out = Path(folder) / "in.csv", Path(folder) / "out.csv"
            write(given, texts, rows)
            found.append(
                {
                    "rows": rows,
                    "input_bytes": given.stat().st_size,
                    **predicted(arguments.model_dir, given, out),
                }
            )
            found[-1]["output_bytes"] = out.stat().st_size
        print(json.dumps(found[-1]), file=sys.stderr)
    report(arguments, found)


def write(path: Path, texts: list[str], rows: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        for i, text in enumerate(itertools.islice(itertools.cycle(texts), rows)):
            writer.writerow([f"{text} {i}"])


def predicted(model_dir: Path, given: Path, out: Path) -> dict[str, Any]:
    """Figures of one process; refuses an output that does not have every id once and in order."""
    words = [sys.executable, "-m", "sortal", "predict", str(model_dir), str(given), "--out", str(out)]
    work, first, peak = out.with_name(f".{out.name}.sortal-predict"), None, 0
    before, began = cpu_seconds(), time.monotonic()
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, high_water(process.pid))
        if first is None and any(work.glob("*.shard")):
            first = time.monotonic() - began
        time.sleep(0.05)
    seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"predict ended with {process.returncode}")
    with out.open(newline="", encoding="utf-8") as file:
        ids = (line["id"] for line in csv.DictReader(file))
        if any(id_ != str(number) for number, id_ in enumerate(ids, start=1)):
            raise SystemExit("ids are missing, repeated or out of order")
    return {
        "peak_bytes": peak,
        "seconds": seconds,
        "seconds_to_first_shard": first or seconds,
        "cpu_seconds": cpu_seconds() - before,
    }


def high_water(pid: int) -> int:
    """Peak of a process's resident set so far, in bytes; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def cpu_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(arguments: Any, found: list[dict[str, Any]]) -> None:
    meta = model_folder.read_meta(arguments.model_dir)
    told = {
        "command": command("bulk", ("--note",)).replace(str(arguments.model_dir), "MODEL_DIR"),
        "model": {
            "method": meta["method"],
            "labels": len(meta["labels"]),
            "versions": meta["versions"],
            "bytes": sum(path.stat().st_size for path in arguments.model_dir.iterdir()),
        },
        "note": arguments.note,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "lengths": found,
    }
    (RESULTS / "bulk.json").write_text(json.dumps(told, indent=1) + "\n")
    lines = [
        "# Files of growing length",
        "",
        f"`{told['command']}`: `sortal predict` of a {meta['method']} with {len(meta['labels'])} labels, from CSV to CSV, the texts of {arguments.texts} over and over. "
        f"{arguments.note + ' ' if arguments.note else ''}Absolute figures mean something on this machine only.",
        "",
        "| rows | input, MB | output, MB | peak memory, MB | seconds | to the first shard | CPU seconds | rows / CPU second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each['rows']:,} | {each['input_bytes'] / 1e6:.1f} | {each['output_bytes'] / 1e6:.1f} | {each['peak_bytes'] / 1e6:.0f} "
        f"| {each['seconds']:.0f} | {each['seconds_to_first_shard']:.0f} | {each['cpu_seconds']:.0f} | {each['rows'] / each['cpu_seconds']:,.0f} |"
        for each in found
    ]
    (RESULTS / "bulk.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
