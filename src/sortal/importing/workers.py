"""Shards shared among processes that end with their parent, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from sortal.bulk.work import Place
from sortal.errors import ResourceError
from sortal.importing.shards import Job, convert
from sortal.training.signals import StopAsked, StopRequest

_LOOK_SECONDS = 0.5  # how often a stop that was asked for is looked for


def convert_all(jobs: Sequence[Job], workers: int, stop: StopRequest) -> Iterator[tuple[Place, int]]:
    """The place and number of files of every shard, as each is finished; in this process when ``workers`` is 1.

    Raises:
        StopAsked: a stop was asked for; shards under way are finished first.
        ResourceError: a full disk, or a process that was killed.
    """
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            yield convert(job)
            if stop.requested:
                raise StopAsked
        return
    # Spawned, not forked: Arrow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _end_with_parent)
    try:
        waiting = {pool.submit(convert, job) for job in jobs}
        while waiting:
            done, waiting = wait(waiting, _LOOK_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield future.result()
            if stop.requested:
                raise StopAsked
    except BrokenProcessPool:
        if stop.requested:  # a SIGTERM for all of them
            raise StopAsked from None
        raise ResourceError(
            "a process that converts records was killed, most likely for lack of memory",
            "give the same command again with a lower --workers; what is finished is kept",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    # The pool's own queue keeps workers of a killed parent waiting for ever.
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
