"""The page at ``/`` for people, and the report of a run beside its model: files, sent as they are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response

from sortal.serving.keys import is_loopback
from sortal.serving.refusals import Refusal

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a page and a server of different versions do not fit
}
_PAGE = _ALWAYS | {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
}
# The sandbox: whatever is in the file, it runs nothing and is of another origin than the server.
_REPORT = _ALWAYS | {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}
REPORT = "/report"


def _read() -> dict[str, tuple[bytes, str]]:
    folder = files("sortal.serving") / "page"
    found = {f"/page/{file.name}": file for file in folder.iterdir() if Path(file.name).suffix in _TYPES}
    found["/"] = found.pop("/page/index.html")
    return {path: (file.read_bytes(), _TYPES[Path(file.name).suffix]) for path, file in found.items()}


FILES = _read()
"""Path to content and its type. They hold nothing of a model, and need no key: the page is what asks for one."""


def report_of(folder: Path) -> Path | None:
    """``report.html`` of the run that a model folder belongs to, where ``sortal report`` has made one."""
    run = folder.resolve().parent
    page = run / "report.html"
    is_runs = folder.resolve().name == "model" and (run / "run.json").is_file()
    return page if is_runs and page.is_file() and not page.is_symlink() else None


class Reports:
    """The reports that may be read.

    Args:
        folders: name to model folder.
        keys: whether a key is asked for.
    """

    def __init__(self, folders: Mapping[str, Path], keys: bool) -> None:
        self._folders, self._keys = folders, keys

    def find(self, name: str, request: Request) -> Path | None:
        """The report beside the model called ``name``; None where there is none for this request.

        A report may show texts. Without keys it is for this machine alone, also when a page elsewhere gives its own name the
        address 127.0.0.1: its requests carry that name as their host.
        """
        allowed = self._keys or is_loopback(request.url.hostname or "")
        return report_of(self._folders[name]) if allowed and name in self._folders else None


def add_pages(
    app: FastAPI, reports: Reports, responses: Mapping[int | str, dict[str, Any]], bearer: Any
) -> None:
    """Endpoints of the page's files, and ``GET /report?model=NAME``."""

    async def file(request: Request) -> Response:
        content, kind = FILES[request.url.path]
        return Response(content, media_type=kind, headers=_PAGE)

    for path in FILES:
        app.add_api_route(path, file, include_in_schema=False)

    @app.get(REPORT, responses=dict(responses), dependencies=bearer, response_class=HTMLResponse)
    async def report(model: str, request: Request) -> Response:
        """The page that `sortal report` wrote into the run's folder."""
        page = reports.find(model, request)
        try:
            content = None if page is None else page.read_bytes()
        except OSError:
            content = None
        if content is None:
            raise Refusal(404, "there is no report beside this model; sortal report RUN_DIR makes one")
        return HTMLResponse(content, headers=_REPORT)
