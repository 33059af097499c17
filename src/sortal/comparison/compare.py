"""`compare`: run what is missing of a matrix, then measure, test and advise from everything that is finished."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from sortal.checks.twins import context_of, find_twins
from sortal.comparison import cells as matrix
from sortal.comparison.advice import advise
from sortal.comparison.cells import Cell
from sortal.comparison.mistakes import mistakes
from sortal.comparison.results import RESULT_NAME, Comparison, cell_record, finished_runs, summaries
from sortal.comparison.tables import cells_table, markdown
from sortal.comparison.twins import without_twins
from sortal.comparison.units import clock
from sortal.comparison.worker import Process, failure, last_line, start_cell, stop_cells
from sortal.errors import ConfigError, DataError, LockedError, RunFolderError
from sortal.evaluation.clusters import Clusters
from sortal.evaluation.comparison import MIN_ROWS
from sortal.evaluation.label_metrics import LABEL_METRICS
from sortal.evaluation.words import too_few
from sortal.parts import read_parts
from sortal.provenance import command_line
from sortal.training.atomic import is_leftover, remove_leftovers, write_json, write_text
from sortal.training.identity import result_settings
from sortal.training.lock import LOCK_NAME, FolderLock
from sortal.training.runfolder import REPORT_NAMES, SPLIT_NAME
from sortal.tuned import linear_settings

METHODS = ("majority", "tfidf", "head", "head+tfidf")
_LAST_CHECKPOINT_SECONDS = 60.0
_POLL_SECONDS = 0.2
_TUNABLE = ("f1_micro", "f1_macro")


def compare(
    data: str,
    *,
    methods: Sequence[str] = METHODS,
    seeds: int = 1,
    out: str | Path,
    metric: str | None = None,
    jobs: int = 1,
    n_resamples: int = 2000,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Comparison:
    """Run every method with every seed on one split, and compare.

    Cells that are finished in ``out`` are read, stopped ones resumed, failed ones tried again; a cell that fails is reported and
    the others go on. Writes ``comparison.json`` and ``comparison.md`` after every cell.

    Args:
        data: as for `sortal.train`; test rows are needed, from a file or split off.
        methods: names, cheapest first so that there is something to see early.
        seeds: training runs of each method; with 3 or more, seeds are part of intervals and tests.
        out: folder of the comparison.
        metric: compared by tests; default: accuracy, for multi-label f1_micro. With several labels per row, weights and
            thresholds are chosen on dev by that F1, unless the settings say otherwise.
        jobs: cells that run at the same time; 0: none, what is finished is compared. They share the machine, so their seconds and rates are not those of a run alone:
            the comparison says so.
        n_resamples: bootstrap resamples.
        say: gets lines for people; default: stderr.
        settings: of `RunConfig`; ``{"head.epochs": 2}`` is for one method.

    Raises:
        SortalError: what is wrong before any cell runs: data, settings, or a folder with other runs in it.
    """
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    out = Path(out)
    if jobs < 0:
        raise ConfigError(
            f"jobs is {jobs}", "use 1, more where memory holds several runs, or 0 to run nothing"
        )
    cells = matrix.plan({**settings, "data": data}, list(methods), seeds, out)
    _check_folder(out)
    with FolderLock(out):
        remove_leftovers(out)
        parts = read_parts(cells[0].config, say)
        task = parts.label_space.task
        metric = metric or ("accuracy" if task == "single" else "f1_micro")
        if metric not in LABEL_METRICS[task]:
            raise ConfigError(
                f"metric {metric!r} is not for a {task}-label task",
                f"use one of {', '.join(LABEL_METRICS[task])}",
            )
        if task == "multi" and metric in _TUNABLE:
            # A model whose thresholds serve another F1 would be judged by what it was not made for.
            chosen = {"metric_for_best_model": metric, "threshold_metric": metric, **settings}
            cells = matrix.plan({**chosen, "data": data}, list(methods), seeds, out)
        if len(parts.test) == 0:
            raise DataError(
                "there are no test rows to compare on", "give --test FILE, or a test_size above 0"
            )
        clusters = Clusters.of(parts.test.groups)
        n, groups = len(parts.test), None if clusters is None else clusters.count
        if (groups or n) < MIN_ROWS:
            say(f"warning: {too_few(n, groups)} for intervals and tests: {MIN_ROWS} are needed")
        for cell in cells:
            if (cell.folder.path / LOCK_NAME).exists():
                _wait_for(cell.folder.path)  # half of its files may be gone while it ends
        matrix.check(cells, parts)
        parts.write(out)
        reasons: dict[str, str] = {}
        most_jobs = max(jobs, _jobs_before(out))
        twins = find_twins(context_of(parts.train, parts.dev, parts.test))
        left_out = parts.left_out["test"].to_json() if "test" in parts.left_out else None

        def measured() -> Comparison:
            records = [cell_record(cell, reasons) for cell in cells]
            runs = finished_runs(cells, records)
            found, pairs = summaries(runs, records, metric, n_resamples, seed=0)
            values = {summary.method: summary.value for summary in found}
            seconds = {s.method: s.cost["train_seconds"] for s in found if "train_seconds" in s.cost}
            devices = len({record["device"] for record in records if "device" in record})
            advice = advise(values, seconds, pairs, n, devices, groups)
            wrong = mistakes(runs, parts, metric)
            clean = without_twins(twins, n, runs, metric, n_resamples, seed=0)
            comparison = Comparison(
                metric, n, records, found, pairs, advice, wrong, most_jobs, clean, left_out
            )
            write_json(out / RESULT_NAME, comparison.to_json())
            write_text(out / "comparison.md", markdown(comparison, shlex.join(command_line())))
            return comparison

        return _run(cells, out, metric, jobs, reasons, measured) or measured()


def _check_folder(out: Path) -> None:
    """Refuse a folder with other things in it before anything is written there."""
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out} is a file", "choose another --out")
    ours = {RESULT_NAME, "comparison.md", SPLIT_NAME, "runs", "settings", "logs", LOCK_NAME, *REPORT_NAMES}
    other = (
        [p.name for p in out.iterdir() if p.name not in ours and not is_leftover(p.name)]
        if out.exists()
        else []
    )
    if other:
        raise RunFolderError(
            f"{out} is not a comparison's folder (it holds {other[0]!r})", "choose another --out"
        )


def _jobs_before(out: Path) -> int:
    """How many cells at a time the comparison that ``out`` holds was made with."""
    with suppress(OSError, ValueError, AttributeError):
        return int(json.loads((out / RESULT_NAME).read_text(encoding="utf-8")).get("jobs", 1))
    return 1


def _run(
    cells: Sequence[Cell],
    out: Path,
    metric: str,
    jobs: int,
    reasons: dict[str, str],
    measured: Callable[[], Comparison],
) -> Comparison | None:
    """Run the cells that are not finished, ``jobs`` at a time, with a live table on a terminal or two lines per cell.

    Returns what was measured after the last of them; None when there was none to run.
    """
    latest = None
    console = Console(stderr=True)
    for name in ("settings", "logs"):
        (out / name).mkdir(exist_ok=True)
    logs = [out / "logs" / f"{cell.name}.log" for cell in cells]
    records = [cell_record(cell, reasons) for cell in cells]
    unfinished = [number for number, record in enumerate(records) if record["status"] != "finished"]
    waiting = unfinished if jobs else []
    running: dict[int, Process] = {}
    with (
        Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else _Quiet() as live
    ):
        try:
            while waiting or running:
                while len(running) < jobs and (ready := next_ready(waiting, cells, running)) is not None:
                    waiting.remove(number := ready)
                    cell = cells[number]
                    _wait_for(cell.folder.path)
                    records[number]["status"] = "running"
                    made = finished_parts(cell, cells)
                    running[number] = start_cell(
                        cell, out / "settings" / f"{cell.name}.yaml", logs[number], made
                    )
                    if not console.is_terminal:
                        console.print(f"{cell.name}: running ({logs[number]})", highlight=False, markup=False)
                lines = {cells[number].name: last_line(logs[number]) for number in running}
                live.update(cells_table(records, metric, lines), refresh=True)
                time.sleep(_POLL_SECONDS)
                ended = [number for number, process in running.items() if process.poll() is not None]
                for number in ended:
                    cell, code = cells[number], running.pop(number).returncode
                    if code:
                        reasons[cell.name] = failure(logs[number]) or f"exit code {code}"
                    records[number] = cell_record(cell, reasons)
                    if not console.is_terminal:
                        outcome = f"{cell.name}: {_outcome(records[number], metric)}"
                        console.print(outcome, highlight=False, markup=False)
                if ended:
                    latest = measured()
        except BaseException:
            stop_cells(list(running.values()))
            raise
    return latest


def blended_from(cell: Cell, cells: Sequence[Cell]) -> dict[str, Cell]:
    """The cells whose models ``cell`` adds: ``tuned`` and ``tfidf``, each where the comparison has one with the settings it needs."""
    if cell.config.blend == "none":
        return {}
    apart = {"blend", "out"}
    ours, words = cell.config.model_dump(exclude=apart), _of_linear(cell)  # the data they share
    found = {}
    for other in cells:
        if other.config.method == "tfidf":
            if _of_linear(other) == words:
                found["tfidf"] = other
        elif other.config.blend == "none" and other.config.model_dump(exclude=apart) == ours:
            found["tuned"] = other
    return found


def _of_linear(cell: Cell) -> dict[str, Any]:
    return linear_settings(result_settings(cell.config.model_dump()))


def finished_parts(cell: Cell, cells: Sequence[Cell]) -> dict[str, Path]:
    """The run folders of `blended_from` whose models are there to be taken."""
    parts = blended_from(cell, cells)
    return {part: other.folder.path for part, other in parts.items() if other.status == "finished"}


def next_ready(waiting: Sequence[int], cells: Sequence[Cell], running: Collection[int]) -> int | None:
    """The first cell that waits for nothing: a blend waits for the models that it adds, an ensemble for its members."""
    for number in waiting:
        parts = [str(other.folder.path) for other in blended_from(cells[number], cells).values()]
        awaited = {*parts, *cells[number].config.members}
        needed = {n for n, other in enumerate(cells) if str(other.folder.path) in awaited}
        if not needed & {*waiting, *running}:
            return number
    return None


def _wait_for(folder: Path) -> None:
    """Until a cell of a comparison that was killed has written its checkpoint and is gone."""
    deadline = time.monotonic() + _LAST_CHECKPOINT_SECONDS
    while folder.exists():
        try:
            with FolderLock(folder):
                return
        except LockedError:
            if time.monotonic() > deadline:
                return  # the cell itself will say who holds it
            time.sleep(0.2)


def _outcome(record: dict[str, Any], metric: str) -> str:
    if record["status"] != "finished":
        return f"{record['status']}: {record.get('reason', '')}"
    seconds = record["cost"].get("train_seconds")
    return f"{metric} {record['metrics'][metric]:.3f}" + (
        "" if seconds is None else f", trained in {clock(seconds)}"
    )


class _Quiet:
    """Where there is no terminal to redraw."""

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, table: Any, refresh: bool) -> None:
        """Nothing."""
