"""A server that is killed under load and started again, and one that is asked to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.serving.clients import connections
from benchmarks.serving.processes import PATIENCE, free_port, sortal_serve, started

_CLIENTS = 16
_REQUESTS = 4  # of a client
_PAUSE = 0.2


def killed_and_restarted(model_dir: Path, texts: list[str], core: int | None) -> dict[str, Any]:
    """SIGKILL under load, and the same command again at once: clients that ask again have all answers in the end."""
    port, tries, answered = free_port(), Counter[str](), 0
    words = sortal_serve([str(model_dir)], port)

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        nonlocal answered
        for turn in range(_REQUESTS):
            text = texts[(number * _REQUESTS + turn) % len(texts)]
            while True:
                try:
                    reply = await client.post("/predict", json={"inputs": text})
                    if reply.status_code == 200:
                        answered += 1
                        break
                    tries[str(reply.status_code)] += 1
                except httpx2.TransportError as error:
                    tries[type(error).__name__] += 1
                await asyncio.sleep(_PAUSE)

    clients = _in_thread(f"http://127.0.0.1:{port}", ask)
    with started(words, port, core) as first:
        clients.start()
        _until(lambda: answered >= _CLIENTS)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(PATIENCE)
    killed, before = time.monotonic(), answered
    with started(words, port, core):
        _until(lambda: answered > before)
        seconds = time.monotonic() - killed
        clients.join(PATIENCE)
    return {
        "requests": _CLIENTS * _REQUESTS,
        "answered": answered,
        "answered_before": before,
        "tries_without_answer": dict(tries),
        "seconds_to_the_next_answer": seconds,
    }


def asked_to_stop(model_dir: Path, texts: list[str], core: int | None) -> dict[str, Any]:
    """SIGTERM under load: what was accepted is answered, the rest is refused, and nothing breaks off."""
    port, replies = free_port(), Counter[str]()

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        for turn in range(1000):
            try:
                reply = await client.post("/predict", json={"inputs": texts[(number + turn) % len(texts)]})
            except httpx2.ConnectError:  # it listens no longer
                return
            except httpx2.TransportError as error:
                replies[type(error).__name__] += 1
                return
            replies[str(reply.status_code)] += 1

    clients = _in_thread(f"http://127.0.0.1:{port}", ask)
    with started(sortal_serve([str(model_dir)], port), port, core) as running:
        clients.start()
        _until(lambda: replies["200"] >= _CLIENTS)
        running.process.send_signal(signal.SIGTERM)
        clients.join(PATIENCE)
        code = running.process.wait(PATIENCE)
        stopped = running.event("stopped")
    return {
        "replies": dict(replies),
        "accepted": stopped["accepted"],
        "unanswered": stopped["unanswered"],
        "exit_code": code,
    }


def _in_thread(url: str, ask: Callable[[httpx2.AsyncClient, int], Awaitable[None]]) -> threading.Thread:
    """A thread, not started, in which every client asks."""

    async def all_of_them() -> None:
        async with connections(url, _CLIENTS) as client:
            await asyncio.gather(*(ask(client, number) for number in range(_CLIENTS)))

    return threading.Thread(target=lambda: asyncio.run(all_of_them()), daemon=True)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the server does not answer")
        time.sleep(0.01)
