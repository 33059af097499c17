"""The process: a socket, uvicorn, and the way from a signal to the last answer."""

from __future__ import annotations

import math
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import uvicorn

from sortal.errors import ConfigError, Interrupted, ResourceError
from sortal.serving.app import make_app
from sortal.serving.asking import Asking
from sortal.serving.guard import Guard
from sortal.serving.keys import Keys
from sortal.serving.logs import JsonLog, adopt_libraries
from sortal.serving.metrics import Metrics
from sortal.serving.pages import Reports
from sortal.serving.service import Service
from sortal.serving.settings import Limits

KEEP_ALIVE = 75  # seconds; more than usual clients keep a connection, so that it is theirs to close
_BACKLOG = 2048
_UNWIND = 5.0


def run_server(
    folders: dict[str, Path], *, host: str, port: int, keys: Keys, limits: Limits, drain_seconds: float
) -> None:
    """Listen, load the models, answer, and return after a signal when everything accepted is answered.

    Raises:
        ConfigError: the address cannot be used. ModelError: a folder cannot.
        ResourceError: the port is taken, or requests were left unanswered after ``drain_seconds``.
        Interrupted: a second signal did not wait for the answers.
    """
    log = JsonLog()
    adopt_libraries(log)
    guard, service = assemble(folders, keys, limits, log)
    with listening(host, port) as sock:
        server = DrainingServer(guard, service, log, drain_seconds)
        service.start()
        log("listening", url=url_of(sock), models=list(folders))
        server.run(sockets=[sock])
    service.close(_UNWIND)
    log("stopped", accepted=guard.accepted, unanswered=guard.cut_off)
    if service.failure is not None:
        raise service.failure
    if server.impatient is not None:
        name = signal.Signals(server.impatient).name
        raise Interrupted(f"stopped by a second {name}", "the first one waits for answers", server.impatient)
    if guard.cut_off:
        raise ResourceError(
            f"{guard.cut_off} accepted requests were not answered within {drain_seconds:g} seconds",
            "raise --drain-seconds, or lower --max-queue",
        )


def assemble(folders: Mapping[str, Path], keys: Keys, limits: Limits, log: JsonLog) -> tuple[Guard, Service]:
    """The ASGI application, and the service behind it, which is not started.

    Raises:
        ModelError: a folder is not a model's, or is damaged.
    """
    metrics = Metrics()
    service = Service(folders, limits, metrics, log)
    app = make_app(Asking(service, limits, metrics, log), Reports(folders, bool(keys)), bool(keys))
    return Guard(app, service=service, keys=keys, limits=limits, metrics=metrics, log=log), service


class DrainingServer(uvicorn.Server):
    """uvicorn that, asked to stop, goes on listening until what it accepted is answered.

    uvicorn alone closes its socket at once: a client that connects meanwhile sees an error of the network instead of a 503, and a
    load balancer no readiness.

    Attributes:
        impatient: the signal that came a second time.
    """

    def __init__(self, guard: Guard, service: Service, log: JsonLog, drain_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                guard,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=KEEP_ALIVE,
            )
        )
        self._guard, self._service, self._log = guard, service, log
        self._drain_seconds = drain_seconds
        self._asked: int | None = None
        self._told = False
        self._deadline = 0.0
        self.impatient: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal handler: only sets flags, since it may have interrupted anything."""
        if self._asked is None:
            self._asked, self._service.draining = sig, True
            self._deadline = time.monotonic() + self._drain_seconds
            return
        self.impatient = sig
        self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether the server shall close."""
        if self._asked is not None and not self._told:
            self._told = True
            self._log("draining", signal=signal.Signals(self._asked).name, open=self._guard.open)
        left = self._deadline - time.monotonic()
        drained = self._asked is not None and (not self._guard.open or left <= 0)
        self.should_exit |= drained or self._service.failure is not None
        # Answers may still be on their way to slow readers.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(left))
        return await super().on_tick(counter)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on ``host`` and ``port``; port 0 takes a free one.

    Raises:
        ConfigError: no such address on this machine. ResourceError: the port is taken or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(
            f"--host {host}: {error.strerror or error}", "give an address of this machine"
        ) from None
    try:
        sock = socket.create_server((address[0], port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ResourceError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            "choose another --port, or stop what uses this one",
        ) from None
    # asyncio does this only for sockets made with the protocol's number. Connections inherit it; without, the second part of a
    # reply waits for the first one's acknowledgement, which clients delay by 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def url_of(sock: socket.socket) -> str:
    """Where a listening socket is reached."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
