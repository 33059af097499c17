"""Requests whose body comes slowly, partly or never, spoken to the application itself."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from sortal.serving.keys import Keys
from sortal.serving.logs import JsonLog
from sortal.serving.server import assemble
from sortal.serving.settings import Limits


def spoken(folder: Any, messages: list[Any], headers: dict[str, str] | None = None, **limits: Any) -> Any:
    """What the application sends for a POST to ``/predict`` whose body are these messages, and its log; None never comes."""
    stream = io.StringIO()
    guard, _ = assemble({"m": folder}, Keys(), Limits(**limits), JsonLog(stream))
    given = {"content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "raw_path": b"/predict",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    left, sent = list(messages), []

    async def receive() -> Any:
        message = left.pop(0)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    assert guard.open == 0
    return sent, [json.loads(line) for line in stream.getvalue().splitlines()]


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_that_does_not_arrive_is_given_up(single):
    (start, body), (line,) = spoken(single, [part(b'{"inputs":'), None], body_seconds=0.01)
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert "did not arrive within 0.01 seconds" in json.loads(body["body"])["error"]
    assert line["status"] == 408


def test_a_client_that_goes_away_gets_no_answer_and_one_line(single):
    sent, (line,) = spoken(single, [part(b'{"inputs":'), {"type": "http.disconnect"}])
    assert sent == []
    assert (line["status"], line["level"]) == (499, "info")


def test_a_body_is_refused_before_it_is_read_when_it_says_that_it_is_too_large(single):
    (start, _), _ = spoken(single, [], {"content-length": "3000000"})
    assert start["status"] == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "9" * 5000])
def test_a_length_that_is_no_number_is_refused(single, length):
    (start, _), _ = spoken(single, [], {"content-length": length})
    assert start["status"] == 400


def test_a_body_in_parts_is_put_together(single):
    # Not loaded: the application read the whole body, found nothing wrong, and then had no model.
    (start, _), _ = spoken(single, [part(b'{"in'), part(b'puts": "a'), part(b'"}', False)])
    assert start["status"] == 503
