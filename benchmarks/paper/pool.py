"""Runs of several comparisons side by side, each in the folder where its comparison will look for it."""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from sortal.comparison.cells import Cell, plan
from sortal.comparison.compare import finished_parts, next_ready
from sortal.comparison.names import is_seedless
from sortal.comparison.worker import die_with_parent

# How long a method's run lasts, roughly, against one of the head.
_MOST_LETTERS = 1000
_WEIGHT = {"encoder": 0.5, "probe": 0.5, "instruct": 5.0}


def train_all(sets: Mapping[Path, Mapping[str, Any]], arguments: Any) -> None:
    """Train what is not finished, ``arguments.jobs`` runs at a time, the longest of a seed first, sums and blends when what they are made of is there; one that fails is said and left.

    Args:
        sets: settings of each comparison, by its folder.
    """
    cells = [
        cell
        for folder, settings in sets.items()
        for cell in plan(_of_runs(settings), arguments.methods, arguments.seeds, folder)
        if cell.seed >= arguments.first_seed or is_seedless(cell.method)
    ]
    waiting = [number for number, cell in enumerate(cells) if cell.status != "finished"]
    waiting.sort(key=lambda number: (cells[number].seed, -_length(cells[number])))
    with processes(arguments.jobs) as pool:
        running: dict[Future[str], int] = {}
        while waiting or running:
            while len(running) < arguments.jobs:
                if (number := next_ready(waiting, cells, set(running.values()))) is None:
                    break
                waiting.remove(number)
                made = finished_parts(cells[number], cells)
                running[pool.submit(train, cells[number], made)] = number
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                cell = cells[running.pop(done)]
                print(f"{cell.folder.path}  {done.exception() or done.result()}", flush=True)


def processes(jobs: int) -> ProcessPoolExecutor:
    """That train runs, ``jobs`` at a time; when this process is killed they write their checkpoints and stop."""
    # On a CPU every run has a process of its own, whose peak of memory is the run's; on a GPU starting one takes as long as a tenth of a run.
    each = None if torch.cuda.is_available() else 1
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, die_with_parent, max_tasks_per_child=each)


def train(cell: Cell, made: Mapping[str, Path]) -> str:
    """One run, its words in a log beside the others of its comparison; returns what it reached.

    Args:
        made: of a blend, folders of the finished runs whose models it adds, by the name that `sortal.run.run` has for each.
    """
    from sortal.run import run

    log = cell.folder.path.parents[1] / "logs" / f"{cell.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as words, contextlib.redirect_stderr(words):
        found = run(cell.config, resume=True, quiet=True, **made)
    seconds = found.record["training"].get("train_seconds", 0.0)
    metrics = {
        key: found.metrics[key]
        for key in ("accuracy", "f1_micro", "f1_macro")
        if found.metrics.get(key) is not None
    }
    whole = found.record["seconds"]
    del found
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return f"{json.dumps(metrics)} {seconds:.0f} of {whole:.0f} s"


def _length(cell: Cell) -> float:
    """A step's kernels take about as long as reading some hundred letters, and no text is read to its end."""
    with Path(cell.config.data).open("rb") as lines:
        rows = sum(min(len(line), _MOST_LETTERS) + 300 for line in lines)
    return rows * _WEIGHT.get(cell.method.partition("+")[0], 1.0)


def _of_runs(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "n_resamples"}  # of the comparison
