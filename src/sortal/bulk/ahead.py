"""Work done in a thread ahead of what uses it, so that reading and tokenising do not wait for computing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class _End(Generic[T]):
    pass


@contextmanager
def ahead(items: Iterator[T], depth: int = 1) -> Iterator[Iterator[T]]:
    """``items`` drawn in a thread, at most ``depth`` finished ones waiting; its exceptions are raised where they are used.

    The thread has ended when the block has.
    """
    ready: queue.Queue[T | _Failed | _End[T]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | _Failed | _End[T]) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def draw() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(_End())
        except BaseException as error:
            put(_Failed(error))

    def drawn() -> Iterator[T]:
        while not isinstance(item := ready.get(), _End):
            if isinstance(item, _Failed):
                raise item.error
            yield item

    thread = threading.Thread(target=draw, name="sortal-ahead", daemon=True)
    thread.start()
    try:
        yield drawn()
    finally:
        stop.set()
        thread.join()
