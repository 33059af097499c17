"""Requests whose body comes slowly, partly or never, spoken to the application itself."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from served import PATIENCE, Hold, asking, serving
from sortal.serving.guard import Guard
from sortal.serving.keys import Keys
from sortal.serving.logs import JsonLog
from sortal.serving.server import assemble
from sortal.serving.settings import Limits


def request(headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A POST to ``/predict``."""
    given = {"content-type": "application/json", **(headers or {})}
    return {
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


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def said(guard: Guard, messages: list[Any], headers: dict[str, str] | None = None) -> list[Any]:
    """What the application sends to a client that sends these messages; None never comes."""
    left, sent = list(messages), []

    async def receive() -> Any:
        message = left.pop(0) if left else None
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(request(headers), receive, send))
    return sent


def spoken(folder: Any, messages: list[Any], headers: dict[str, str] | None = None, **limits: Any) -> Any:
    """What the application sends for a POST to ``/predict`` whose body are these messages, and its log; no model is loaded."""
    stream = io.StringIO()
    guard, _ = assemble({"m": folder}, Keys(), Limits(**limits), JsonLog(stream))
    sent = said(guard, messages, headers)
    assert guard.open == 0
    return sent, [json.loads(line) for line in stream.getvalue().splitlines()]


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


def test_the_texts_of_a_client_that_has_gone_are_not_scored(single, monkeypatch):
    with serving(single) as served:
        hold, answers = Hold(monkeypatch), []
        first = asking(served, "the first", answers)
        assert hold.entered.wait(PATIENCE)
        whole = part(b'{"inputs": ["gone", "with it"]}', False)
        assert said(served.guard, [whole, {"type": "http.disconnect"}]) == []
        assert served.guard.open == 1
        hold.release()
        first.join(PATIENCE)
        assert answers[0].status_code == 200
        assert served.client.post("/predict", json={"inputs": "the last"}).status_code == 200
        page = served.client.get("/metrics").text
    assert 'sortal_texts_total{model="m"} 2.0' in page.splitlines()
    assert "sortal_pending_texts 0.0" in page.splitlines()
    gone = [line for line in served.log if line.get("status") == 499]
    assert [line["texts"] for line in gone] == [2]


def test_a_client_that_goes_after_its_answer_is_answered(single):
    with serving(single) as served:
        start, body = said(served.guard, [part(b'{"inputs": "a"}', False), None])
        assert start["status"] == 200
        assert len(json.loads(body["body"])) == 3
