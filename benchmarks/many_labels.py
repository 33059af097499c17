"""Memory and time of everything outside the model, from 10 to 5,000 labels, on seeded synthetic rows.

    python -m benchmarks.many_labels                                  # 10, 100, 1,000 and 5,000 labels, 100,000 rows
    python -m benchmarks.many_labels --labels 1000 --rows 20000

The scores stand for a model's: a right label is likelier than the others, and rare labels are harder. Each number of labels is
measured in a process of its own, on one thread; ``tfidf`` is fitted on fewer rows (--fit-rows), because its time is that of its solver. Peak memory
is the process's resident set above what it was before the part, from /proc (Linux). Writes benchmarks/results/many_labels.json and .md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.command import command
from benchmarks.tables import table

Part = Callable[[str, int], AbstractContextManager[None]]
RESULTS = Path(__file__).parent / "results"
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
PER_ROW = 2.2  # labels of a row, on average
_WORDS, _LENGTH = 20_000, 40
_MICROBATCH = 256
_SCORED = 2000  # test rows that tfidf scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 100, 1000, 5000])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--fit-rows", type=int, default=2000, help="training rows of tfidf")
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    for n_labels in arguments.labels:
        given = (command("many_labels"), n_labels, arguments.rows, arguments.fit_rows, arguments.resamples)
        process = spawn.Process(target=measure, args=given)
        process.start()
        process.join()
        if process.exitcode:
            parser.exit(1, f"{n_labels:,} labels: the process ended with {process.exitcode}\n")


def measure(words: str, n_labels: int, rows: int, fit_rows: int, n_resamples: int) -> None:
    """Every part once, at one number of labels; the results are kept part by part."""
    from sortal.data.dataset import Dataset
    from sortal.data.labels import LabelSpace
    from sortal.evaluation.decision import Decision
    from sortal.evaluation.frequency import LabelFrequencies
    from sortal.evaluation.metrics import evaluate
    from sortal.evaluation.predictions import read_predictions, write_predictions
    from sortal.methods.frequencies import label_counts

    row: dict[str, Any] = {
        "command": words,
        "labels": n_labels,
        "rows": rows,
        "fit_rows": fit_rows,
        "resamples": n_resamples,
        "machine": f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}",
        "parts": {},
    }
    part = partial(measured, row)
    texts, labels = synthetic(rows, n_labels, fit_rows)
    names = tuple(label_name(k) for k in range(n_labels))
    space = LabelSpace(names, "multi")
    whole = Dataset.from_lists(texts, labels, task="multi", label_names=names)
    edges = np.cumsum([0, *(round(share * rows) for share in SHARES.values())])
    train, dev, test = (whole.take(np.arange(a, b)) for a, b in pairwise(edges))
    with part("encode", rows):
        gold = space.encode_sparse(train)
        dev_gold, test_gold = space.encode(dev), space.encode(test)
    losses(part, gold, names)
    dev_scores, test_scores = (scores_of(found, seed) for seed, found in enumerate((dev_gold, test_gold)))
    with part("temperature and thresholds", len(dev)):
        decision = Decision.fit(dev_scores, dev_gold, "multi")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.parquet"
        with part("write predictions", len(test)):
            probabilities = decision.probabilities(test_scores)
            write_predictions(
                path, test.ids, probabilities, decision.decide(probabilities), space, gold=test_gold
            )
            del probabilities
        row["predictions_bytes"] = path.stat().st_size
        with part("read predictions", len(test)):
            read_predictions(path)
    frequencies = LabelFrequencies(len(train), label_counts(gold, n_labels))
    for name, resamples in (("evaluate", 0), ("evaluate with intervals", n_resamples)):
        with part(name, len(test)):
            figures = evaluate(
                test_scores, test_gold, decision, space, n_resamples=resamples, frequencies=frequencies
            )
        row["f1_micro"] = figures["f1_micro"]
    del dev_scores, test_scores, dev_gold, test_gold
    tfidf(part, train.take(np.arange(fit_rows)), test, space)


def losses(part: Part, gold: Any, names: tuple[str, ...]) -> None:
    """Loss and gradient of logits, in microbatches of `_MICROBATCH` rows; a few of them, as each is like the others."""
    import torch

    from sortal.config import build_config
    from sortal.training.losses import make_loss
    from sortal.training.objective import Classification

    torch.set_num_threads(1)
    loss = make_loss(build_config({"loss": "asymmetric"}), "multi", names, gold)
    nothing = SimpleNamespace(lengths=np.ones(gold.shape[0], np.int64))
    objective = Classification(torch.nn.Identity(), nothing, gold, loss, torch.device("cpu"))  # type: ignore[arg-type]
    logits = torch.full((_MICROBATCH, len(names)), -5.0, requires_grad=True)
    starts = range(0, min(gold.shape[0], 20 * _MICROBATCH) - _MICROBATCH + 1, _MICROBATCH)
    with part("loss and its gradient", len(starts) * _MICROBATCH):
        for start in starts:
            loss(logits, objective.targets_of(np.arange(start, start + _MICROBATCH))).sum().backward()


def tfidf(part: Part, train: Any, test: Any, space: Any) -> None:
    """Features, one linear classifier per label, and scores of the test rows."""
    from sortal.methods.linear import fit_linear
    from sortal.methods.tfidf import TfidfScorer
    from sortal.methods.tfidf_features import TfidfFeatures

    with part("tfidf: features", len(train)):
        features, x = TfidfFeatures.fit(train.texts)
        x = x.astype(np.float64)
    with part("tfidf: fit", len(train)):
        linear = fit_linear(x, space.encode_sparse(train), len(space), "svm", 0.3, seed=0)
    scored = test.take(np.arange(min(_SCORED, len(test))))
    with part("tfidf: score", len(scored)):
        TfidfScorer(space, features, linear).score(scored.texts)


@contextmanager
def measured(row: dict[str, Any], name: str, rows: int) -> Iterator[None]:
    """Seconds of processor time, microseconds of it per row, and the peak of the resident set above its start."""
    before, read = start_peak()
    began = time.process_time()
    yield
    seconds = time.process_time() - began
    peak = read()
    row["parts"][name] = {
        "seconds": round(seconds, 3),
        "microseconds_per_row": round(1e6 * seconds / rows, 2),
        "rows": rows,
        "peak_mb_above_start": round(max(peak - before, 0) / 1e6, 1),
        "peak_mb": round(peak / 1e6, 1),
    }
    keep(row)


def start_peak() -> tuple[int, Callable[[], int]]:
    """Resident bytes now, and a function for the peak since."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident
    return _status("VmRSS"), lambda: _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def label_name(k: int) -> str:
    """A name as codes have them."""
    return f"{chr(65 + k % 8)}{k // 8:04d}"


def synthetic(rows: int, n_labels: int, fit_rows: int) -> tuple[list[str], list[tuple[str, ...]]]:
    """Labels with Zipf frequencies, at least one per row; texts of `_LENGTH` words with a few that belong to the labels.

    Rows that tfidf does not read have a word only.
    """
    rng = np.random.default_rng(7)
    frequency = 1 / np.arange(1, n_labels + 1)
    frequency /= frequency.sum()
    counts = np.minimum(1 + rng.poisson(PER_ROW - 1, rows), n_labels)
    drawn = rng.choice(n_labels, size=int(counts.sum()), p=frequency)
    read = np.zeros(rows, np.bool_)
    read[:fit_rows] = read[-round(SHARES["test"] * rows) :] = True
    ends = np.cumsum(counts)
    texts, labels = [], []
    for row in range(rows):
        own = np.unique(drawn[ends[row] - counts[row] : ends[row]])
        told = " ".join(f"about{k}" for k in own.tolist())
        words = rng.zipf(1.3, _LENGTH) % _WORDS if read[row] else np.array([row])
        texts.append(" ".join(f"w{word}" for word in words.tolist()) + " " + told)
        labels.append(tuple(label_name(k) for k in own.tolist()))
    return texts, labels


def scores_of(gold: Any, seed: int) -> Any:
    """fp32 log-odds: right labels stand out, less so for rare ones."""
    rng = np.random.default_rng(seed)
    n, n_labels = gold.shape
    scores = rng.standard_normal((n, n_labels), dtype=np.float32)
    scores -= np.log(np.arange(2, n_labels + 2, dtype=np.float32)) + 2
    rows, labels = np.nonzero(gold)
    scores[rows, labels] += 6
    return scores


def keep(row: dict[str, Any]) -> None:
    """Add or replace this number of labels in many_labels.json, and write the table of all."""
    from sortal.training.atomic import write_text

    path = RESULTS / "many_labels.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = sorted([r for r in kept if r["labels"] != row["labels"]] + [row], key=lambda r: r["labels"])
    write_text(path, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    write_text(path.with_suffix(".md"), markdown(kept))


def markdown(kept: list[dict[str, Any]]) -> str:
    """Tables of memory and of time, one column per number of labels."""
    names = list(dict.fromkeys(name for row in kept for name in row["parts"]))

    def figures(key: str) -> list[str]:
        columns = ["part", *(f"{row['labels']:,} labels" for row in kept)]
        shown = [{name: f"{part[key]:,.0f}" for name, part in row["parts"].items()} for row in kept]
        return table(columns, ([name, *(each.get(name, "–") for each in shown)] for name in names))

    commands = ", ".join(dict.fromkeys(f"`{row['command']}`" for row in kept))
    rows = ", ".join(dict.fromkeys(f"{row['rows']:,}" for row in kept))
    fitted = ", ".join(dict.fromkeys(f"{row['fit_rows']:,}" for row in kept))
    sizes = ", ".join(
        f"{row['predictions_bytes'] / 1e6:,.1f} MB with {row['labels']:,} labels"
        for row in kept
        if "predictions_bytes" in row
    )
    return "\n".join(
        [
            "# Many labels: memory and time outside the model",
            "",
            f"{commands}: {rows} synthetic rows (80 % train, 10 % dev, 10 % test), about {PER_ROW} labels each, one thread.",
            f"Encoding is of all rows, the loss of {20 * _MICROBATCH:,} training rows, temperature and thresholds of dev, evaluating, writing and reading of test; `tfidf` is fitted on {fitted} rows and scores {_SCORED:,}.",
            "",
            "## Peak resident memory of the process, MB (Python, libraries, texts and scores included)",
            "",
            *figures("peak_mb"),
            "",
            "## Of that, above what was held before the part, MB",
            "",
            *figures("peak_mb_above_start"),
            "",
            "## Processor time per row, microseconds",
            "",
            *figures("microseconds_per_row"),
            "",
            f"`predictions.parquet` of the test rows: {sizes}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
