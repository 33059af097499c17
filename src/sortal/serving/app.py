"""The endpoints."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from sortal import __version__
from sortal.data.textcells import clean
from sortal.serving.asking import Asking, joined
from sortal.serving.guard import REQUEST_ID
from sortal.serving.metrics import CONTENT_TYPE
from sortal.serving.occlusion import MOST, without_each, words
from sortal.serving.pages import Reports, add_pages
from sortal.serving.refusals import Refusal, busy, on_defect, on_http_error, on_invalid, on_refusal
from sortal.serving.shapes import (
    ClassifyReply,
    ClassifyRequest,
    ExplainReply,
    ExplainRequest,
    Label,
    PredictRequest,
    Problem,
    classified,
    explained,
    ranked,
)

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is not JSON."},
    404: {"model": Problem, "description": "No such model."},
    408: {"model": Problem, "description": "The body took too long."},
    413: {"model": Problem, "description": "Too many bytes or texts."},
    415: {"model": Problem, "description": "Not sent as JSON."},
    422: {"model": Problem, "description": "Not of the documented shape."},
    429: {"model": Problem, "description": "The queue is full; Retry-After says when to ask again."},
    500: {"model": Problem, "description": "A defect."},
    503: {"model": Problem, "description": "Loading or stopping; Retry-After says when to ask again."},
}
_UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: {"model": Problem, "description": "No valid API key."}}
# Off: it would record messages of exceptions and validation failures, which may quote texts.
_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def make_app(asking: Asking, reports: Reports, keys: bool) -> FastAPI:
    """The application; `sortal.serving.guard.Guard` goes around it.

    Args:
        reports: of the runs beside the models.
        keys: whether the OpenAPI document says that a key is needed; the guard is what asks for it.
    """
    service, limits = asking.service, asking.limits
    app = FastAPI(
        title="Sortal",
        version=__version__,
        description="Labels and calibrated probabilities of texts.",
        docs_url=None,  # its page loads scripts from a public network
        redoc_url=None,
        telemetry=_TELEMETRY,
    )
    for error, handler in (
        (Refusal, on_refusal),
        (RequestValidationError, on_invalid),
        (HTTPException, on_http_error),
        (Exception, on_defect),
    ):
        app.add_exception_handler(error, handler)
    bearer = [Security(HTTPBearer(auto_error=False))] if keys else []
    unauthorized = _UNAUTHORIZED if keys else {}

    @app.post(
        "/predict",
        response_model=list[Label] | list[list[Label]],
        responses=_PROBLEMS | unauthorized,
        dependencies=bearer,
    )
    async def predict(body: PredictRequest, request: Request) -> Response:
        """Labels of a text with their probabilities, most probable first; a list of such lists for a list of texts."""
        texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        model, answers = await asking(request.scope, body.model, texts)
        names, top_k = model.classifier.classes_, None if body.parameters is None else body.parameters.top_k
        found = [ranked(one, names, top_k) for one in answers]
        return JSONResponse(found if isinstance(body.inputs, list) else found[0])

    @app.post(
        "/classify",
        response_model=ClassifyReply,
        responses=_PROBLEMS | unauthorized,
        dependencies=bearer,
    )
    async def classify(body: ClassifyRequest, request: Request) -> Response:
        """The label of each text and the probabilities of all, in vLLM's shape."""
        texts = body.input if isinstance(body.input, list) else [body.input]
        model, answers = await asking(request.scope, body.model, texts)
        positions = model.classifier.label_space.index
        tokens = sum(one.tokens or 0 for one in answers)
        return JSONResponse(
            {
                "id": f"classify-{request.scope[REQUEST_ID]}",
                "object": "list",
                "created": int(time.time()),
                "model": model.name,
                "data": [classified(one, index, positions) for index, one in enumerate(answers)],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
            }
        )

    @app.post(
        "/explain", response_model=ExplainReply, responses=_PROBLEMS | unauthorized, dependencies=bearer
    )
    async def explain(body: ExplainRequest, request: Request) -> Response:
        """How much each word of a text matters to its labels: the text is scored again without each of them."""
        began, space = time.monotonic(), asking.model(body.model).classifier.label_space
        if body.labels is not None and not set(body.labels) <= space.index.keys():
            raise Refusal(422, "labels holds one that the model does not have; /info has those there are")
        text = clean(joined(asking.model(body.model), [body.inputs])[0])[
            0
        ]  # as the model reads it; a lone surrogate cannot be sent back
        # Never more work than a request of /predict may bring, in texts and in bytes.
        copies = limits.max_body_bytes // max(1, len(text.encode()))
        most = min(MOST, limits.texts_of_a_request - 1, copies - 1)
        if most < 1:
            raise Refusal(
                413, "the limits leave no room to score this text again without its words; shorten it"
            )
        parts = words(text, most)
        model, answers = await asking(request.scope, body.model, [text, *without_each(parts)])
        reply = explained(answers, parts, body.labels, space)
        seconds = time.monotonic() - began
        return JSONResponse({"model": model.name, **reply, "ms": round(1000 * seconds, 2)})

    @app.get("/health", responses={503: _PROBLEMS[503]})
    async def health() -> dict[str, str]:
        """Whether the process works; when not, restart it."""
        if not service.alive:
            raise busy(503, "the thread with the models has ended")
        return {"status": "ok"}

    @app.get("/ready", responses={503: _PROBLEMS[503]})
    async def ready() -> dict[str, str]:
        """Whether requests are answered now: not while models are loaded, and not once the server is stopping."""
        if service.draining:
            raise busy(503, "the server is stopping")
        if not service.ready:
            raise busy(503, "the models are being loaded")
        return {"status": "ready"}

    @app.get("/info", responses=unauthorized, dependencies=bearer)
    async def info(request: Request) -> dict[str, Any]:
        """The models with their labels, thresholds and limits."""
        accepted = {
            "max_queue": limits.max_queue,
            "max_texts": limits.texts_of_a_request,
            "max_body_bytes": limits.max_body_bytes,
        }
        models = [
            about | {"report": reports.find(about["name"], request) is not None} for about in service.about
        ]
        return {"version": __version__, "models": models, "limits": accepted}

    @app.get("/metrics", responses=unauthorized, dependencies=bearer, response_class=Response)
    async def prometheus() -> Response:
        """Figures for Prometheus."""
        return Response(asking.metrics.page(), media_type=CONTENT_TYPE)

    refused: dict[int | str, dict[str, Any]] = {404: _PROBLEMS[404], 422: _PROBLEMS[422]}
    add_pages(app, reports, refused | unauthorized, bearer)
    return app
