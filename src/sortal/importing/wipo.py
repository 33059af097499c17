"""``sortal import wipo-alpha``: plan, convert what is missing, put finished shards together, and leave nothing but the result."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import sortal
from sortal.backbone.environment import usable_cores
from sortal.bulk.work import Place, Work
from sortal.data.ipc import Level
from sortal.data.ipc_titles import IpcTitles, read_titles
from sortal.data.problems import counted
from sortal.data.records import Say
from sortal.data.wipo.layout import PARTS, RecordFile, find_records
from sortal.data.wipo.rows import SCHEMA
from sortal.errors import ConfigError, DataError, Interrupted, RunFolderError
from sortal.importing.shards import Job, cut, read_shard
from sortal.importing.summary import LEVELS, Summary
from sortal.importing.workers import convert_all
from sortal.training.atomic import atomic_folder, is_leftover, remove_leftovers, write_json, write_text
from sortal.training.progress import ProgressView
from sortal.training.signals import StopAsked, StopRequest

SUMMARY, PROBLEMS = "import.json", "problems.jsonl"


def import_wipo(
    source: str | Path,
    out: str | Path,
    *,
    view: ProgressView,
    say: Say,
    languages: Sequence[str] = ("en",),
    titles: str | Path | None = None,
    workers: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Convert the collection in ``source`` into ``out/train.parquet`` and ``out/test.parquet``; returns the content of ``import.json``.

    Finished shards are kept in a hidden folder beside ``out`` until all are there, so the same call goes on where a killed or stopped one was,
    and its files are the same byte for byte. Records that cannot be read are skipped and listed in ``problems.jsonl``.

    Args:
        view: shows progress.
        say: receives sentences for people.
        languages: in order of preference, for records in several.
        titles: a table of IPC titles (`sortal.data.ipc_titles.read_titles`), from which ``wording-<level>.csv`` is made for the labels of train.
        workers: processes; None: one per core.
        force: throw away what is kept of another import into the same ``out``.

    Raises:
        DataError: no collection there, or no record that can be used.
        RunFolderError: ``out`` exists, or another import into it is under way or unfinished.
        Interrupted: SIGINT or SIGTERM; what is finished is kept.
        ResourceError: a full disk, or lack of memory; what is finished is kept.
    """
    root, goal = Path(source), Path(out).absolute()
    languages = tuple(part.strip().lower() for part in languages if part.strip())
    if not languages:
        raise ConfigError("no language is given", "write --language en, or several: en,fr")
    if not goal.name or not goal.parent.is_dir():
        raise ConfigError(f"--out {out}: its parent folder does not exist", "make it, or choose another")
    named = None if titles is None else read_titles(titles)
    files = find_records(root)
    identity = _identity(root, files, languages, titles)
    work = Work(str(goal.with_name(f".{goal.name}.sortal-import")), "import")
    with StopRequest() as stop, work.locked():
        remove_leftovers(Path(work.folder))
        if goal.exists():
            summary = _finished(goal, identity)
            say(f"{out} holds this import already; nothing to do")
            work.remove()
            return summary
        finished = work.begin({key: identity[key] for key in identity if key != "--titles"}, force)
        jobs = list(_jobs(work, root, files, languages))
        if finished:
            say(f"{_files(jobs, finished):,} of {counted(len(files), 'file')} were read before; going on")
        try:
            _convert(jobs, finished, workers or usable_cores(), stop, view)
        except StopAsked:
            raise _interrupted(stop, jobs, finished) from None
        summary = _publish(goal, work, [job.place for job in jobs], identity, named)
        work.remove()
    return summary


def _jobs(work: Work, root: Path, files: Sequence[RecordFile], languages: tuple[str, ...]) -> Iterator[Job]:
    """The shards of each part."""
    name = root.resolve().name
    for number, part in enumerate(PARTS):
        its = [file for file in files if file.part(name) == part]
        for shard, run in enumerate(cut(its)):
            yield Job(work, (number, shard), str(root), run, languages)


def _convert(
    jobs: Sequence[Job], finished: set[Place], workers: int, stop: StopRequest, view: ProgressView
) -> None:
    """Convert what is missing; ``finished`` grows with every stored shard."""
    left = [job for job in jobs if job.place not in finished]
    view.start("reading files", sum(len(job.files) for job in jobs), _files(jobs, finished))
    began, read = time.monotonic(), 0
    try:
        for place, files in convert_all(left, workers, stop):
            finished.add(place)
            read += files
            view.advance(files, 0, f"{read / max(time.monotonic() - began, 1e-9):,.0f} files/s")
    finally:
        view.stop()


def _publish(
    goal: Path, work: Work, places: Sequence[Place], identity: dict[str, Any], titles: IpcTitles | None
) -> dict[str, Any]:
    """Put the shards together, in a folder that appears complete."""
    for entry in goal.parent.iterdir():  # what a killed process left of the same folder
        if is_leftover(entry.name) and entry.name.startswith(f".{goal.name}.tmp-"):
            shutil.rmtree(entry, ignore_errors=True)
    summary = Summary()
    with atomic_folder(goal) as folder:
        with (folder / PROBLEMS).open("w", encoding="utf-8") as problems:
            for number, part in enumerate(PARTS):
                its = [place for place in places if place[0] == number]
                if not its:
                    continue
                with pq.ParquetWriter(folder / f"{part}.parquet", SCHEMA, compression="zstd") as writer:
                    for place in its:
                        shard = read_shard(work, place)
                        summary.add(part, shard)
                        if shard.rows.num_rows:
                            writer.write_table(shard.rows)
                        problems.writelines(
                            json.dumps(item, ensure_ascii=False) + "\n" for item in shard.problems
                        )
        if not summary.records.total():
            kinds = ", ".join(f"{kind}: {n:,}" for kind, n in summary.skipped.most_common(5))
            raise DataError(
                f"none of {counted(summary.files, 'file')} gave a record ({kinds})",
                "give the folder of the collection",
            )
        found = summary.to_json()
        if titles is not None:
            found["titles"] = {
                level: counts
                for level in LEVELS
                if (counts := _write_wording(folder, level, summary, titles))
            }
        write_json(folder / SUMMARY, {**found, "import": identity})
    return found


def _write_wording(folder: Path, level: Level, summary: Summary, titles: IpcTitles) -> dict[str, int]:
    """``wording-<level>.csv`` as ``--verbalizer`` takes it: the answer is the code, the title stands beside it in the list of labels.

    Returns:
        how many labels there are and how many have a title; empty, and no file, when none has.
    """
    found = {name: titles.get(name) for name in sorted(summary.labels["train"][level])}
    if not any(found.values()):
        return {}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", "wording", "description"])
    writer.writerows([name, name, title] for name, title in found.items())
    write_text(folder / f"wording-{level}.csv", text.getvalue())
    return {"labels": len(found), "with_title": sum(map(bool, found.values()))}


def _identity(
    root: Path, files: Sequence[RecordFile], languages: Sequence[str], titles: str | Path | None
) -> dict[str, Any]:
    """What decides the bytes of the result, but for the content of files that kept name, size and time."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.path) + f"\0{file.size} {file.changed_ns}\n".encode())
    table = None if titles is None else hashlib.sha256(Path(titles).read_bytes()).hexdigest()[:32]
    return {
        "Sortal": sortal.__version__,
        "files": f"{len(files):,} in {root.resolve().name}, {digest.hexdigest()[:32]}",
        "--language": ",".join(languages),
        "--titles": table,
    }


def _finished(goal: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The summary of a finished import, when it is this one."""
    try:
        found = json.loads((goal / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.pop("import", None) != identity:
        raise RunFolderError(
            f"{goal} exists and is not the result of this import",
            "choose another --out, or delete that folder first",
        )
    return found


def _interrupted(stop: StopRequest, jobs: Sequence[Job], finished: set[Place]) -> Interrupted:
    number = stop.signal_number or signal.SIGINT
    total, done = sum(len(job.files) for job in jobs), _files(jobs, finished)
    kept = f"{done:,} of {counted(total, 'file')} are kept" if done else "nothing was finished"
    return Interrupted(
        f"stopped by {signal.Signals(number).name}; {kept}", "give the same command again to go on", number
    )


def _files(jobs: Sequence[Job], places: set[Place]) -> int:
    return sum(len(job.files) for job in jobs if job.place in places)
