"""The log: one JSON line per event, no words of exceptions, and no harm from a reader that has gone."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from sortal.serving.logs import JsonLog, adopt_libraries, frames


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream():
    return io.StringIO()


def raised() -> Exception:
    try:
        raise ValueError("words of a client")
    except ValueError as error:
        return error


def test_an_event_is_one_line_of_json_without_empty_fields(stream):
    JsonLog(stream)("request", "error", path="/predict", tokens=None, n=3, name="ö\n")
    (line,) = lines(stream)
    time = line.pop("time")
    assert time.endswith("Z")
    assert len(time) == len("2030-01-01T00:00:00.000Z")
    assert line == {"level": "error", "event": "request", "path": "/predict", "n": 3, "name": "ö\n"}
    assert stream.getvalue().count("\n") == 1


def test_an_error_is_its_type_and_place(stream):
    JsonLog(stream).exception("failed", raised(), request_id="r")
    (line,) = lines(stream)
    assert (line["type"], line["request_id"]) == ("ValueError", "r")
    assert line["at"] == frames(raised())
    assert line["at"][0].endswith(" raised")
    assert "words" not in stream.getvalue()


def test_a_log_whose_reader_has_gone_is_silent():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    JsonLog(Gone())("request")
    closed = io.StringIO()
    closed.close()
    JsonLog(closed)("request")


def test_libraries_log_through_it_without_messages_of_exceptions(stream):
    kept = {name: logging.getLogger(name).__dict__.copy() for name in ("uvicorn", "asyncio", "fastapi")}
    try:
        adopt_libraries(JsonLog(stream))
        logging.getLogger("uvicorn.error").warning("Invalid %s", "request")
        logging.getLogger("uvicorn.error").info("not worth a line")
        logging.getLogger("uvicorn.error").error("Exception in application", exc_info=raised())
        logging.getLogger("asyncio").error("Task <words of a client> failed", exc_info=raised())
    finally:
        for name, values in kept.items():
            logging.getLogger(name).__dict__.update(values)
            logging.getLogger(name).manager._clear_cache()
    warned, failed, task = lines(stream)
    assert (warned["message"], warned["level"], warned["logger"]) == (
        "Invalid request",
        "warning",
        "uvicorn.error",
    )
    assert (failed["type"], failed["level"]) == ("ValueError", "error")
    assert "message" not in task
    assert "words of a client" not in stream.getvalue()
