"""Predictions for files: plan, score what is missing, put finished shards together, and leave nothing but the result."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import sortal
from sortal import model_folder
from sortal.bulk.engine import Engine, Job
from sortal.bulk.formats import Format
from sortal.bulk.inputs import Input, expand
from sortal.bulk.outputs import Target, target
from sortal.bulk.plan import Plan, total
from sortal.bulk.progress import RowProgress
from sortal.bulk.storage import is_url, storage
from sortal.bulk.work import Place, Work, model_digest
from sortal.data.records import Say
from sortal.data.schema import Schema
from sortal.errors import DataError, Interrupted
from sortal.training.progress import TerminalProgress
from sortal.training.signals import StopAsked, StopRequest

MakeEngine = Callable[[StopRequest], AbstractContextManager[Engine]]


def predict_files(
    model_dir: str,
    words: Sequence[str],
    out: str,
    make_engine: MakeEngine,
    *,
    form: str | None = None,
    top: int | None = None,
    force: bool = False,
    weights: str = "saved",
    say: Say,
    **columns: Any,
) -> int:
    """Label the rows of every input; returns their number.

    Finished shards are kept in a hidden folder beside ``out`` until they are put together, so the same call goes on where a killed
    or stopped one was, and its result is the same.

    Args:
        model_dir: model folder of a run.
        words: files, folders, globs, URLs.
        out: a file for all rows, or a folder for one file per input; see `sortal.bulk.outputs.target`.
        make_engine: the engine, given what knows of signals.
        form: ``jsonl``, ``csv`` or ``parquet``, where names do not say it.
        top: probabilities of so many labels only (jsonl).
        force: throw away what is kept of another prediction with the same ``out``.
        weights: what the engine's model was loaded with (`sortal.load`).
        say: receives sentences for people.
        columns: arguments of `sortal.data.stream.open_texts` that differ from those in training.

    Raises:
        DataError: an input that cannot be read, before anything is scored.
        RunFolderError: another prediction with the same ``out`` is under way or unfinished.
        Interrupted: SIGINT or SIGTERM; what is finished is kept.
        ResourceError: a full disk, lack of memory; what is finished is kept.
    """
    meta = model_folder.read_meta(Path(model_dir))
    inputs = expand(words)
    goal = target(inputs, out, form)
    space = model_folder.label_space(meta)
    forms = {i: Format(output.form, space, top) for output in goal.outputs for i in output.inputs}
    formats = tuple(forms[i] for i in range(len(inputs)))
    work = Work(goal.work)
    plans: list[Plan] = []
    finished: set[Place] = set()
    with StopRequest() as stop, make_engine(stop) as engine, _tidy(out, goal), work.locked():
        try:
            plans = engine.plan(inputs, readings(meta, inputs, columns, named=goal.together), say)
            refuse_empty(plans)
            finished |= work.begin(_identity(model_dir, plans, formats, weights), force)
            _run(engine, Job(model_dir, tuple(plans), formats, work, weights), goal, finished, stop, say)
        except StopAsked:
            raise _interrupted(stop, plans, finished) from None
        work.remove()
    return total(plans)


def readings(
    meta: dict[str, Any], inputs: Sequence[Input], columns: dict[str, Any], *, named: bool
) -> list[dict[str, Any]]:
    """How each input is read: with the columns of training but for ``columns``; ``named`` puts the file before row numbers, where rows
    of several files meet."""
    trained = Schema.from_json(meta["schema"])
    base = {
        "text": trained.text,
        "text_template": trained.text_template,
        "id": trained.id,
        "label": trained.label,
        **columns,
    }
    return [{**base, "prefix": f"{each.name}:" if named and len(inputs) > 1 else ""} for each in inputs]


def refuse_empty(plans: Sequence[Plan]) -> None:
    """Refuse inputs without a single row.

    Raises:
        DataError: as `sortal.data.reading.read` does.
    """
    if not total(plans):
        what = plans[0].input.source if len(plans) == 1 else "the files"
        raise DataError(f"{what} has no rows" if len(plans) == 1 else f"{what} have no rows", "add rows")


def _run(engine: Engine, job: Job, goal: Target, finished: set[Place], stop: StopRequest, say: Say) -> None:
    """Score and publish; ``finished`` grows with every stored shard."""
    output_of = {i: n for n, output in enumerate(goal.outputs) for i in output.inputs}
    places: list[list[Place]] = [[] for _ in goal.outputs]
    for i, plan in enumerate(job.plans):
        places[output_of[i]] += [(i, shard) for shard in range(len(plan.shards))]
    published = {
        n
        for n, output in enumerate(goal.outputs)
        if job.work.published(n) and storage(output.path).exists(output.path)
    }
    finished |= {place for n in published for place in places[n]}
    left = [sum(place not in finished for place in its) for its in places]
    rows, done = total(job.plans), _rows(job.plans, finished)
    if done:
        say(f"{done:,} of {rows:,} rows were finished before; going on with the others")

    def publish(n: int) -> None:
        output = goal.outputs[n]
        with storage(output.path).appearing(output.path) as file:
            job.formats[output.inputs[0]].join((job.work.shard(place) for place in places[n]), file)
        job.work.publish(n, places[n])

    for n in range(len(goal.outputs)):
        if not left[n] and n not in published:
            publish(n)
    view = RowProgress(TerminalProgress(), stop)
    view.start("predicting", rows, done)
    try:
        for place in engine.score(job, frozenset(finished), view):
            finished.add(place)
            n = output_of[place[0]]
            left[n] -= 1
            if not left[n]:
                publish(n)
    finally:
        view.stop()


def _identity(
    model_dir: str, plans: Sequence[Plan], formats: Sequence[Format], weights: str
) -> dict[str, Any]:
    """What decides the bytes of every shard."""
    identity = {"Sortal": sortal.__version__, "model": model_digest(model_dir), "--top": formats[0].top}
    if weights != "saved":
        identity["--weights"] = weights
    for number, (plan, form) in enumerate(zip(plans, formats, strict=True), start=1):
        identity[f"input {number}"] = f"{plan.input.name} as {form.form}, {plan.rows:,} rows, {plan.digest}"
    return identity


def _interrupted(stop: StopRequest, plans: Sequence[Plan], finished: set[Place]) -> Interrupted:
    number = stop.signal_number or signal.SIGINT
    done = _rows(plans, finished)
    kept = f"{done:,} of {total(plans):,} rows are kept" if done else "nothing was finished"
    return Interrupted(
        f"stopped by {signal.Signals(number).name}; {kept}", "give the same command again to go on", number
    )


def _rows(plans: Sequence[Plan], places: set[Place]) -> int:
    return sum(plans[i].shards[shard].rows for i, shard in places)


@contextmanager
def _tidy(out: str, goal: Target) -> Iterator[None]:
    """A new ``--out`` folder in which nothing was kept goes again."""
    is_new = not goal.together and not is_url(out) and not Path(out).exists()
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):
                Path(out).rmdir()
