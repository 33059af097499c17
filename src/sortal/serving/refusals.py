"""Why a request gets no answer, as a status and one sentence of JSON in TEI's error shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_TYPES = {401: "unauthorized", 429: "overloaded", 500: "internal", 503: "unavailable"}
_LONGEST = 100


class Refusal(Exception):  # noqa: N818 - a reply, not a failure
    """A request that is turned down.

    Args:
        status: of HTTP.
        sentence: what is wrong and what to do; holds nothing of a text or key.
        headers: of the reply.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers

    def response(self) -> Response:
        """The reply."""
        body = {"error": self.sentence, "error_type": _TYPES.get(self.status, "validation")}
        return JSONResponse(body, self.status, headers=self.headers)


def busy(status: int, sentence: str, retry_after: int = 1) -> Refusal:
    """A refusal (429 or 503) of what may be sent again after so many seconds."""
    return Refusal(status, sentence, {"Retry-After": str(retry_after)})


def internal() -> Refusal:
    """A defect; the log has what happened, the reply must not."""
    return Refusal(500, "the server failed on this request; its log has the reason under the X-Request-Id")


async def on_refusal(request: Request, error: Exception) -> Response:
    """Exception handler of `Refusal`."""
    assert isinstance(error, Refusal)
    return error.response()


async def on_invalid(request: Request, error: Exception) -> Response:
    """Exception handler of a body that is not JSON (400) or not of the documented shape (422)."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {first['ctx']['error']}").response()
    return Refusal(422, sentence_of(first)).response()


async def on_http_error(request: Request, error: Exception) -> Response:
    """Exception handler of what the router itself refuses: unknown paths and methods, bodies that cannot be decoded."""
    assert isinstance(error, HTTPException)
    sentences = {
        400: "the body is not JSON in UTF-8",
        404: "there is no such path; /openapi.json has those there are",
        405: "this path takes another method; /openapi.json has it",
    }
    sentence = sentences.get(error.status_code, str(error.detail))
    return Refusal(error.status_code, sentence, error.headers).response()


async def on_defect(request: Request, error: Exception) -> Response:
    """Exception handler of everything else."""
    return internal().response()


def sentence_of(problem: Mapping[str, Any]) -> str:
    """One of pydantic's problems as a sentence that names the field and never quotes its value."""
    names = [str(part) for part in problem["loc"] if part != "body"]
    field = ".".join(names)
    if len(field) > _LONGEST:
        field = f"{field[:_LONGEST]}…"
    if not names:
        return "the body must be a JSON object"
    if problem["type"] == "missing":
        return f"{field} is missing"
    if problem["type"] == "extra_forbidden":
        return f"unknown field {field!r}; /openapi.json has the known ones"
    message = str(problem["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    return f"{field} {message[:1].lower()}{message[1:]}"
