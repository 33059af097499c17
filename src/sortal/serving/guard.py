"""What is decided about a request before its words are read, and what is written down about it afterwards."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sortal.serving.keys import Keys
from sortal.serving.logs import JsonLog
from sortal.serving.metrics import Metrics
from sortal.serving.pages import FILES, REPORT
from sortal.serving.refusals import Refusal, busy, internal
from sortal.serving.service import Service
from sortal.serving.settings import Limits

NOTES = "sortal.notes"
"""Key in a scope: what the endpoint adds to the request's line in the log."""
REQUEST_ID = "sortal.request_id"
"""Key in a scope: the client's X-Request-Id, or one of ours."""
ANSWERING = frozenset({"/predict", "/classify", "/explain"})
# Asked by whoever restarts and balances, who has no key, and by the page before it has one.
OPEN = frozenset({"/health", "/ready", *FILES})
PATHS = ANSWERING | OPEN | {"/info", "/metrics", "/openapi.json", REPORT}
_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_GONE = 499  # what nginx logs for a client that did not wait for its answer


class Guard:
    """ASGI application around the endpoints: keys, size limits, the end of the server, request ids, log and metrics.

    Attributes:
        accepted: requests with texts that were let in.
        open: those of them that are not answered yet.
        cut_off: those that the end of the server left without an answer.
    """

    def __init__(
        self, app: ASGIApp, *, service: Service, keys: Keys, limits: Limits, metrics: Metrics, log: JsonLog
    ) -> None:
        self._app, self._service, self._keys = app, service, keys
        self._limits, self._metrics, self._log = limits, metrics, log
        self.accepted = self.open = self.cut_off = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":  # the lifespan of the application
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._service)
        try:
            await self._serve(scope, receive, exchange)
        except Refusal as refusal:
            await refusal.response()(scope, receive, exchange.send)
        except _ClientGoneError:
            exchange.status = _GONE
        except asyncio.CancelledError:  # uvicorn waits no longer, and this task has nothing more to do
            self.cut_off += 1
            if not exchange.status:
                late = busy(503, "the server stopped before this request was answered; ask another one")
                await late.response()(scope, receive, exchange.send)
        except Exception as error:
            self._log.exception("defect", error, request_id=exchange.id)
            if not exchange.status:
                await internal().response()(scope, receive, exchange.send)
        finally:
            self._write_down(exchange)

    async def _serve(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        headers = dict(scope["headers"])
        if scope["path"] not in OPEN and not self._keys.accept(headers.get(b"authorization")):
            raise Refusal(
                401,
                "a valid API key is needed: send the header Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        if scope["method"] != "POST" or scope["path"] not in ANSWERING:
            await self._app(scope, receive, exchange.send)
            return
        if self._service.draining:
            raise busy(503, "the server is stopping; ask another one, or again in a moment")
        if self.open >= self._limits.max_queue:
            # Each holds a body in memory, and nearly always a text of the queue.
            raise busy(
                429, "too many requests are waiting; send this one again later", self._service.retry_after
            )
        self._check_headers(headers)
        self.accepted += 1
        self.open += 1
        try:
            body = await self._read(receive)
            await self._answer(body, scope, receive, exchange)
        finally:
            self.open -= 1

    async def _answer(self, body: bytes, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        """Run the endpoint as long as the client is there; texts of one that has gone are not scored."""
        gone = asyncio.ensure_future(receive())  # after the body, only the end of the connection can come
        work = asyncio.ensure_future(self._app(scope, _replay(body, gone), exchange.send))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not exchange.status:
                raise _ClientGoneError
            await work
        finally:
            work.cancel()
            gone.cancel()

    def _check_headers(self, headers: dict[bytes, bytes]) -> None:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Refusal(415, "the body must be JSON: send the header Content-Type: application/json")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refusal(415, "the body must not be compressed")
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 18:
            raise Refusal(400, "the header Content-Length is not a usable number")
        if int(declared) > self._limits.max_body_bytes:
            raise self._too_large()

    async def _read(self, receive: Receive) -> bytes:
        """The whole body, within its limits of size and time."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientGoneError
                    body += message.get("body", b"")
                    if len(body) > self._limits.max_body_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            sentence = f"the body did not arrive within {self._limits.body_seconds:g} seconds"
            raise Refusal(408, sentence, {"Connection": "close"}) from None

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"the body has more than {self._limits.max_body_bytes:,} bytes; send the texts in several requests",
        )

    def _write_down(self, exchange: _Exchange) -> None:
        seconds = time.monotonic() - exchange.began
        path = exchange.scope["path"]
        path = path if path in PATHS else "other"  # a path is the client's words
        self._metrics.requests.labels(path, str(exchange.status)).inc()
        self._metrics.request_seconds.labels(path).observe(seconds)
        self._log(
            "request",
            {500: "error", 503: "warning"}.get(exchange.status, "info"),
            request_id=exchange.id,
            method=exchange.method,
            path=path,
            status=exchange.status,
            ms=round(1000 * seconds, 2),
            **exchange.notes,
        )


class _ClientGoneError(Exception):
    """The client closed the connection before it had its answer."""


class _Exchange:
    """One request and its reply: its id, what is noted about it, and the headers that every reply gets."""

    def __init__(self, scope: Scope, send: Send, service: Service) -> None:
        self.scope, self._send, self._service = scope, send, service
        self.began = time.monotonic()
        self.status = 0
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        self.id = given.decode("ascii") if _ID.fullmatch(given) else uuid.uuid4().hex
        self.notes: dict[str, Any] = {}
        scope[NOTES], scope[REQUEST_ID] = self.notes, self.id
        known = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
        self.method = scope["method"] if scope["method"] in known else "other"

    async def send(self, message: Message) -> None:
        """Pass a message of the reply on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            more = [(b"x-request-id", self.id.encode("ascii"))]
            if self._service.draining:
                more.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await self._send(message)


def _replay(body: bytes, gone: asyncio.Future[Message]) -> Receive:
    """The ``receive`` of an application that reads the body again, and then waits for the end of the connection."""
    left = [body]

    async def replayed() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await asyncio.shield(gone)

    return replayed
