"""A server in this process: its ASGI application behind a test client, with the models in their own thread."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from sortal.serving.guard import Guard
from sortal.serving.keys import Keys
from sortal.serving.logs import JsonLog
from sortal.serving.models import ServedModel
from sortal.serving.server import assemble, url_of
from sortal.serving.service import Service
from sortal.serving.settings import Limits
from sortal.serving.shapes import Problem

PATIENCE = 120.0


@dataclass
class Served:
    """A running server.

    client: talks to it; an exception in the server is a 500, as over a network.
    """

    client: TestClient
    guard: Guard
    service: Service
    written: io.StringIO

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log so far."""
        return [json.loads(line) for line in self.written.getvalue().splitlines()]

    def requests(self, path: str) -> list[dict[str, Any]]:
        """The log's lines about requests to ``path``."""
        return [line for line in self.log if line["event"] == "request" and line["path"] == path]


@contextmanager
def serving(
    folders: dict[str, Path] | Path, *, keys: Keys | None = None, start: bool = True, **limits: Any
) -> Iterator[Served]:
    """A server of these model folders, ready unless ``start`` is False; one without a name is called ``m``."""
    named = {"m": folders} if isinstance(folders, Path) else folders
    written = io.StringIO()
    guard, service = assemble(named, keys or Keys(), Limits(**limits), JsonLog(written))
    with TestClient(guard, raise_server_exceptions=False) as client:
        if start:
            service.start()
            assert service.wait(PATIENCE), service.failure
        yield Served(client, guard, service, written)
        if start:
            service.close(PATIENCE)
            assert not service.alive


@contextmanager
def listening(served: Served) -> Iterator[str]:
    """The address under which a browser reaches a server."""
    server = uvicorn.Server(uvicorn.Config(served.guard, lifespan="off", log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        yield url_of(sock)
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


class Hold:
    """While it is set up, models do not answer until ``release``; ``entered`` is set when one is asked."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.entered, self._go = threading.Event(), threading.Event()
        answer = ServedModel.answer

        def held(model: ServedModel, texts: list[str]) -> Any:
            self.entered.set()
            assert self._go.wait(PATIENCE)
            return answer(model, texts)

        patch.setattr(ServedModel, "answer", held)

    def release(self) -> None:
        """Let models answer from now on."""
        self._go.set()


def asking(served: Served, text: str, answers: list[Any]) -> threading.Thread:
    """A thread that sends one text to ``/predict`` and puts the response into ``answers``."""

    def ask() -> None:
        answers.append(served.client.post("/predict", json={"inputs": text}))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def refused(response: Any, status: int, kind: str = "validation") -> str:
    """The sentence of a refusal."""
    assert response.status_code == status, response.text
    problem = Problem.model_validate(response.json())
    assert problem.error_type == kind
    assert "\n" not in problem.error
    return problem.error
