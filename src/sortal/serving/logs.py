"""One JSON line per event. Texts, labels, keys and messages of exceptions, which may quote a text, never get in."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Any

_FOREIGN = ("uvicorn", "fastapi", "asyncio")


class JsonLog:
    """Writes events to a stream; a reader that has gone stops the lines and not the server."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, event: str, level: str = "info", **fields: Any) -> None:
        """Write one line: time (UTC), level, event, then ``fields`` without those that are None."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        values = {"time": time, "level": level, "event": event}
        values |= {key: value for key, value in fields.items() if value is not None}
        line = json.dumps(values, ensure_ascii=False, default=str) + "\n"
        stream = self._stream or sys.stdout
        with self._lock, suppress(OSError, ValueError):
            stream.write(line)
            stream.flush()

    def exception(self, event: str, error: BaseException, **fields: Any) -> None:
        """An error by its type and where it arose."""
        self(event, "error", type=type(error).__name__, at=frames(error), **fields)


def frames(error: BaseException) -> list[str]:
    """``file:line function`` of the innermost frames of an error, without its message."""
    found = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in found]


class _Bridge(logging.Handler):
    """Records of the libraries as events; of an exception only what `frames` gives."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # asyncio puts what it was doing into the message, reprs of arguments included
        message = None if record.name.startswith("asyncio") else record.getMessage().strip()
        where = {} if error is None else {"type": type(error).__name__, "at": frames(error)}
        self._log("library", record.levelname.lower(), logger=record.name, message=message, **where)


def adopt_libraries(log: JsonLog) -> None:
    """Send what the server's libraries log through ``log``."""
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_Bridge(log)], False
        logger.setLevel(logging.WARNING)
