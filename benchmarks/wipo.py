"""``sortal import wipo-alpha`` at the size of the collection: documents per second, peak memory, bytes, and a kill half-way.

    python -m benchmarks.wipo                                   # 75,000 made-up records, some minutes and 3 GB of temporary space

Records are those of `benchmarks.wipo_records`: the collection's format and oddities, text of our own. They are imported once from beginning to
end, and once killed (SIGKILL) when half of the shards are there and started again; the files of both have to be the same. Memory is the peak of
the resident sets of the process and its workers together, read every 50 ms; the page cache is warm, for the records were just written.
Writes benchmarks/results/wipo.json and wipo.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bulk import cpu_seconds
from benchmarks.command import command
from benchmarks.wipo_records import BROKEN, write_broken, write_collection
from sortal.importing.shards import SHARD_FILES

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=75_000)
    parser.add_argument("--words", type=int, default=1500, help="of a description")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--note", default="", help="what else the machine did, for the report")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        write_collection(folder / "c", arguments.records, description_words=arguments.words)
        write_broken(folder / "c" / "train" / "broken")
        written = time.monotonic() - began
        print(f"records written in {written:.0f} s", file=sys.stderr)
        whole = imported(folder, "whole", arguments.workers)
        half = math.ceil((arguments.records + len(BROKEN)) / SHARD_FILES / 2)
        work = folder / ".resumed.sortal-import"
        killed = imported(
            folder, "resumed", arguments.workers, lambda: len(list(work.glob("*.shard"))) >= half
        )
        kept = len(list(work.glob("*.shard")))
        resumed = imported(folder, "resumed", arguments.workers)
        if digests(folder / "whole") != digests(folder / "resumed"):
            raise SystemExit("the resumed import is another one")
        summary = json.loads((folder / "whole" / "import.json").read_text())
        sizes = {
            "xml_bytes": sum(path.stat().st_size for path in (folder / "c").rglob("*.xml")),
            "parquet_bytes": sum(path.stat().st_size for path in (folder / "whole").glob("*.parquet")),
        }
    expected = {"files": arguments.records + len(BROKEN), "skipped": len(BROKEN)}
    if {"files": summary["files"], "skipped": sum(summary["skipped"].values())} != expected:
        raise SystemExit(f"{summary} is not {expected}")
    report(
        arguments,
        {**expected, "records": summary["records"], **sizes, "whole": whole}
        | {"killed": {**killed, "shards_kept": kept}, "resumed": resumed, "files_equal": True},
    )


def imported(folder: Path, out: str, workers: int, kill: Callable[[], bool] | None = None) -> dict[str, Any]:
    """Figures of one process, killed once ``kill`` says so."""
    words = [sys.executable, "-m", "sortal", "import", "wipo-alpha", str(folder / "c")]
    words += ["--out", str(folder / out), "--workers", str(workers)]
    before, began, peak = cpu_seconds(), time.monotonic(), 0
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        if kill and kill():
            process.kill()
        time.sleep(0.05)
    if process.returncode != (-signal.SIGKILL if kill else 0):
        raise SystemExit(f"the import ended with {process.returncode}")
    figures = {"seconds": time.monotonic() - began, "peak_bytes": peak}
    # Workers of a killed process are no children of ours, and their time is not seen.
    return figures if kill else {**figures, "cpu_seconds": cpu_seconds() - before}


def resident(pid: int) -> int:
    """Bytes of the resident sets of a process and its children, pages that they share counted in each."""
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def report(arguments: Any, found: dict[str, Any]) -> None:
    told = {
        "command": command("wipo", ("--note",)),
        "note": arguments.note,
        "workers": arguments.workers,
        **found,
    }
    (RESULTS / "wipo.json").write_text(json.dumps(told, indent=1) + "\n")
    rows = [
        ("from beginning to end", found["whole"], found["files"]),
        ("started again after the kill", found["resumed"], found["files"] - found["killed"]["shards_kept"] * SHARD_FILES),
    ]  # fmt: skip
    lines = [
        "# Importing a collection of patents",
        "",
        f"`{told['command']}`: `sortal import wipo-alpha` of {found['files']:,} files ({found['xml_bytes'] / 1e6:,.0f} MB of XML in the format of WIPO-alpha, text made up here) into Parquet "
        f"({found['parquet_bytes'] / 1e6:,.0f} MB; made-up words compress better than prose), {arguments.workers} processes. {arguments.note + ' ' if arguments.note else ''}"
        "Absolute figures mean something on this machine only.",
        "",
        "| | files read | seconds | CPU seconds | files / second | files / CPU second | peak memory, all processes, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {files:,} | {each['seconds']:.0f} | {each['cpu_seconds']:.0f} | {files / each['seconds']:,.0f} | {files / each['cpu_seconds']:,.0f} | {each['peak_bytes'] / 1e6:,.0f} |"
        for name, each, files in rows
    ]
    lines += [
        "",
        f"Killed (SIGKILL) with {found['killed']['shards_kept']:,} shards of up to {SHARD_FILES:,} files kept, the same command went on and wrote the same files, byte for byte. "
        f"{found['skipped']} broken files were skipped and named.",
    ]
    (RESULTS / "wipo.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
