"""Servers in processes of their own."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

PATIENCE = 300.0


@dataclass(frozen=True)
class Running:
    """A started server.

    output: file with what it wrote to stdout.
    """

    url: str
    process: psutil.Popen
    output: Path

    def cpu_seconds(self) -> float:
        """Seconds of CPU so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> dict[str, int]:
        """Bytes: resident, and those of them that no file and no other process holds too."""
        found = self.process.memory_full_info()
        return {"resident": found.rss, "private": found.uss}

    def event(self, name: str) -> dict[str, Any]:
        """The first event of that name in the log of ``sortal serve``."""
        lines = map(json.loads, self.output.read_text(encoding="utf-8").splitlines())
        return next(line for line in lines if line["event"] == name)


def free_port() -> int:
    """One that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def started(words: list[str], port: int, core: int | None) -> Iterator[Running]:
    """``python -m *words`` that listens on ``port``, ready; ``core``: the only one it may use."""
    with tempfile.NamedTemporaryFile() as output:
        process = psutil.Popen([sys.executable, "-m", *words], stdout=output)
        if core is not None:
            process.cpu_affinity([core])
        running = Running(f"http://127.0.0.1:{port}", process, Path(output.name))
        try:
            _until_ready(running)
            yield running
        finally:
            if process.is_running():
                process.terminate()
            process.wait(PATIENCE)


def sortal_serve(models: list[str], port: int) -> list[str]:
    """Words of ``sortal serve``."""
    return ["sortal", "serve", *models, "--port", str(port), "--drain-seconds", str(PATIENCE)]


def _until_ready(running: Running) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if running.process.poll() is not None:
            raise SystemExit(f"the server ended with {running.process.returncode}")
        try:
            if httpx2.get(f"{running.url}/ready").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise SystemExit("the server is not ready")
