"""What `sortal check` finds of faults put into public data sets, how good its label-noise detector is, and how it scales.

    python -m benchmarks.check --parts copies noise scale
    python -m benchmarks.check --parts noise --sets banking77

Looks for the data sets in $SORTAL_DATA (or --data). Writes benchmarks/results/check.json and check.md; a part that is not
asked for, or a set, keeps its earlier result (``--parts`` alone writes check.md again).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.check_noise import SETS as NOISE_SETS
from benchmarks.check_noise import noise
from benchmarks.check_tables import markdown
from benchmarks.injection import EDITS, LEAST_CHARACTERS, retyped
from sortal.checks.base import CheckContext
from sortal.checks.duplicates import repeated
from sortal.checks.leakage import alike, equal
from sortal.checks.near import NEAR
from sortal.checks.near_duplicates import near_repeats
from sortal.checks.shingles import similarity
from sortal.data.dataset import Dataset
from sortal.data.reading import read

RESULTS = Path(__file__).parent / "results"
COPIES = 500  # of each kind
READING: dict[str, dict[str, Any]] = {
    "banking77": {"train": "train.csv", "test": "test.csv", "text": "text", "label": "category"},
    "hausa_news": {"train": "train_clean.csv", "test": "test.csv", "text": "news_title", "label": "label"},
    "goemotions": {
        "train": "train.tsv",
        "test": "test.tsv",
        "text": "text",
        "label": "labels",
        "label_delimiter": ",",
    },
    "reuters21578": {"train": "train.jsonl", "test": "test.jsonl", "text": "text", "label": "topics"},
    "newsgroups20": {"train": "train.parquet", "test": "test.parquet", "text": "text", "label": "label"},
    "us_patents_ipc": {"train": "train.parquet", "test": "test.parquet", "text": "abstract", "label": "ipc"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", nargs="*", default=["copies", "noise", "scale"], choices=["copies", "noise", "scale"]
    )
    known = list(dict.fromkeys([*READING, *NOISE_SETS]))
    parser.add_argument("--sets", nargs="+", default=known, choices=known, help="for copies and noise")
    parser.add_argument("--rows", type=int, default=1_000_000, help="for scale")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SORTAL_DATA"), help="folder of the data sets"
    )
    arguments = parser.parse_args()
    path = RESULTS / "check.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    if arguments.data is None and set(arguments.parts) != {"scale"}:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    for name in READING if "copies" in arguments.parts else ():
        if name not in arguments.sets:
            continue
        results.setdefault("copies", {})[name] = copies(name, Path(arguments.data))
        keep(results)
    if "noise" in arguments.parts:
        names = [name for name in NOISE_SETS if name in arguments.sets]
        rest = [row for row in results.get("noise", []) if row["set"] not in names]
        measured: list[dict[str, Any]] = []
        for row in noise(Path(arguments.data), names):
            measured.append(row)
            results["noise"] = sorted([*rest, *measured], key=lambda row: list(NOISE_SETS).index(row["set"]))
            keep(results)
    if "scale" in arguments.parts:
        results["scale"] = scale(arguments.rows)
    keep(results)


def keep(results: dict[str, Any]) -> None:
    """Write what there is, so that a stopped run is not lost."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "check.json"
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(markdown(results))


def load(name: str, data: Path, part: str, file: str | None = None) -> Dataset:
    """A part of a set, or another file with its columns."""
    how = {key: value for key, value in READING[name].items() if key not in ("train", "test")}
    return read(data / name / (file or READING[name][part]), **how, say=lambda line: None)


def without_copies(dataset: Dataset, other: Dataset | None = None) -> list[tuple[str, tuple[str, ...]]]:
    """The rows that are neither equal nor nearly equal to an earlier one (nor to one of ``other``): what is found now was put in."""
    parts = {"train": dataset} if other is None else {"train": other, "test": dataset}
    context, part = CheckContext(parts), "train" if other is None else "test"
    gone = set(np.flatnonzero(context.text_ids.by_part[part] == context.text_ids.empty).tolist())
    ids = context.text_ids
    first = ids.first(part)[ids.by_part[part]]
    gone |= set(np.flatnonzero(first != np.arange(len(first))).tolist())
    gone |= set(near_repeats(context, part)[0].tolist())
    if other is not None:
        gone |= set(equal(context, "train", part)[0].tolist()) | set(
            alike(context, "train", part)[0].tolist()
        )
    kept = [row for row in range(len(dataset)) if row not in gone]
    labels = dataset.labels or []
    return [(text, labels[row]) for row, text in zip(kept, dataset.text_at(kept), strict=True)]


def copies(name: str, data: Path) -> dict[str, Any]:
    """Copies of training rows put behind the training rows and behind the test rows: which of them are found, and what else."""
    draw = random.Random(0)
    whole, test = load(name, data, "train"), load(name, data, "test")
    natural = CheckContext({"train": whole, "test": test})
    base = without_copies(whole)
    held_out = without_copies(test, Dataset.from_lists(*_columns(base)))
    long = [row for row in base if len(row[0]) >= LEAST_CHARACTERS and len(row[0].split()) > 3]
    put: list[tuple[str, str, tuple[str, ...], str]] = []  # kind, text, labels, original
    for kind, edit in {"equal": retyped, **EDITS}.items():
        for text, labels in draw.sample(long, min(COPIES, len(long))):
            put.append((kind, edit(text, draw), labels, text))
    added = [(text, labels) for _, text, labels, _ in put]
    # Every copy with its original alone in one file: within train, and from train to test.
    inside = CheckContext({"train": Dataset.from_lists(*_columns([*base, *added]), task="multi")})
    across = CheckContext(
        {
            "train": Dataset.from_lists(*_columns(base), task="multi"),
            "test": Dataset.from_lists(*_columns([*held_out, *added]), task="multi"),
        }
    )
    again = set(repeated(inside, "train")[0].tolist()) | set(near_repeats(inside, "train")[0].tolist())
    leaked = set(equal(across, "train", "test")[0].tolist()) | set(alike(across, "train", "test")[0].tolist())
    both = [text for _, edited, _, original in put for text in (edited, original)]
    places = np.arange(0, len(both), 2)
    likeness = np.concatenate(
        [similarity(both[p : p + 200], places[:100], places[:100] + 1) for p in range(0, len(both), 200)]
    )
    kinds = {}
    for kind in dict.fromkeys(kind for kind, *_ in put):
        mine = [i for i, entry in enumerate(put) if entry[0] == kind]
        near = [i for i in mine if likeness[i] >= NEAR]
        kinds[kind] = {
            "put_in": len(mine),
            "alike_enough": len(near),
            "duplicates_found": sum(len(base) + i in again for i in mine),
            "duplicates_found_of_alike": sum(len(base) + i in again for i in near),
            "leaks_found": sum(len(held_out) + i in leaked for i in mine),
            "leaks_found_of_alike": sum(len(held_out) + i in leaked for i in near),
        }
    return {
        "rows": {"train": len(whole), "test": len(test)},
        "rows_without_copies": {"train": len(base), "test": len(held_out)},
        "in_the_original": {
            "duplicates": len(repeated(natural, "train")[0]),
            "near_duplicates": len(near_repeats(natural, "train")[0]),
            "leaks": len(equal(natural, "train", "test")[0]),
            "near_leaks": len(alike(natural, "train", "test")[0]),
        },
        "kinds": kinds,
        "false_alarms": {
            "duplicates": sum(row < len(base) for row in again),
            "leaks": sum(row < len(held_out) for row in leaked),
        },
    }


def _columns(rows: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[list[str], list[tuple[str, ...]]]:
    return [text for text, _ in rows], [labels for _, labels in rows]


def scale(rows: int) -> dict[str, Any]:
    """All checks on generated rows of 5 to 15 words, in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        generate(path, rows)
        began = time.monotonic()
        command = [sys.executable, "-c", _MEASURED, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.monotonic() - began
        size = path.stat().st_size
    return {
        "rows": rows,
        "file_bytes": size,
        "wall_seconds": round(seconds, 1),
        **json.loads(done.stdout.splitlines()[-1]),
    }


_MEASURED = """
import json, resource, sys
import sortal
report = sortal.check(sys.argv[1])
values = report.to_json()
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": values["seconds"], "cpu_seconds": round(used.ru_utime + used.ru_stime, 1), "peak_memory_bytes": used.ru_maxrss * 1024, "findings": {f["check"]: f["count"] for f in values["findings"]}}))
"""


def generate(path: Path, rows: int) -> None:
    """Texts of words with Zipf's frequencies, one of them telling the label, 20 labels, one copy in a hundred rows."""
    rng = np.random.default_rng(0)
    syllables = np.array(
        ["ka", "lo", "mi", "ter", "san", "du", "pe", "ri", "no", "va", "shi", "gor", "bel", "tu", "ex"]
    )
    words = np.array(["".join(rng.choice(syllables, rng.integers(2, 5))) for _ in range(30_000)])
    share = 1 / np.arange(1, len(words) + 1)
    share /= share.sum()
    last = ""
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for start in range(0, rows, 10_000):
            n = min(10_000, rows - start)
            lengths, labels = rng.integers(4, 15, n), rng.integers(0, 20, n)
            drawn = words[rng.choice(len(words), int(lengths.sum()), p=share)]
            ends = np.cumsum(lengths)
            for row in range(n):
                told = words[5_000 + labels[row] * 7 + row % 7]
                line = f"{' '.join(drawn[ends[row] - lengths[row] : ends[row]])} {told},label {labels[row]}\n"
                last = last if row % 100 == 99 else line
                file.write(last)


if __name__ == "__main__":
    main()
