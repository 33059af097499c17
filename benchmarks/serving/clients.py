"""Clients that each send one text, wait for its answer and send the next."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np

from benchmarks.serving.processes import PATIENCE


@dataclass
class Seen:
    """What clients saw: seconds until each answer, and everything else by its name or status."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        """Counts, answers per second, and percentiles of the seconds."""
        p50, p99 = np.percentile(self.latencies, (50, 99)).tolist() if self.latencies else (None, None)
        return {
            "answers": len(self.latencies),
            "answers_per_second": len(self.latencies) / self.seconds,
            "p50_seconds": p50,
            "p99_seconds": p99,
            "refused": self.others["429"],
            "other_replies_and_errors": {k: n for k, n in self.others.items() if k != "429"},
        }


async def load(url: str, texts: list[str], clients: int, seconds: float) -> Seen:
    """Ask for so long."""
    seen = Seen()
    began = time.monotonic()
    async with connections(url, clients) as client:

        async def ask(number: int) -> None:
            turn = number
            while time.monotonic() - began < seconds:
                turn += clients
                sent = time.monotonic()
                try:
                    reply = await client.post("/predict", json={"inputs": texts[turn % len(texts)]})
                except httpx2.TransportError as error:
                    seen.others[type(error).__name__] += 1
                    continue
                if reply.status_code == 200:
                    seen.latencies.append(time.monotonic() - sent)
                else:
                    seen.others[str(reply.status_code)] += 1

        await asyncio.gather(*(ask(number) for number in range(clients)))
    seen.seconds = time.monotonic() - began
    return seen


def connections(url: str, clients: int) -> httpx2.AsyncClient:
    """A client with a connection for each of ``clients``."""
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    return httpx2.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits)


def scores(url: str, text: str) -> dict[str, float]:
    """Label to score of one text."""
    reply = httpx2.post(f"{url}/predict", json={"inputs": text}, timeout=PATIENCE).json()
    # A pipeline puts the labels of one text into a list of one list, or not, by its version.
    labels = reply[0] if isinstance(reply[0], list) else reply
    return {label["label"]: label["score"] for label in labels}
