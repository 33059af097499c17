"""The page of a server in Chromium: what people do with it, and a record of what must never happen meanwhile."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from served import Served, listening, serving

Page = Any  # Playwright's, which may not be installed
SETTLED = 20_000  # ms that a page is waited for


@dataclass
class Visit:
    """An opened page with what must stay empty: messages of its console, and requests to anywhere else."""

    page: Page
    url: str
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Any, url: str, **settings: Any) -> Visit:
        """Open it in a context of its own; ``settings`` are those of the context."""
        context = browser.new_context(**settings)
        context.set_default_timeout(SETTLED)
        made = cls(context.new_page(), url)
        made.page.on("console", lambda message: made.console.append(message.text))
        made.page.on("pageerror", lambda error: made.console.append(str(error)))
        made.page.on("request", lambda request: made.requests.append(request.url))
        made.page.goto(url)
        return made

    def silent(self) -> None:
        """Nothing in the console but what the browser itself says of refused requests, and no request elsewhere."""
        assert [line for line in self.console if "Failed to load resource" not in line] == []
        assert self.requests, "a recorder that has seen nothing proves nothing"
        assert [url for url in self.requests if not url.startswith((self.url, "blob:"))] == []


@contextmanager
def open_server(folders: Any, **settings: Any) -> Iterator[tuple[str, Served]]:
    """The address of a server, and the server; see `served.serving`."""
    with serving(folders, **settings) as served, listening(served) as url:
        yield url, served


def classify(page: Page, text: str, model: str | None = None) -> None:
    """Ask about a text and wait for its labels."""
    if model is not None:
        page.get_by_label("Model").select_option(model)
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Classify").click()
    page.get_by_role("list", name="Labels, most probable first").wait_for()


def shown(page: Page) -> list[tuple[str, str]]:
    """(label, probability) of the bars."""
    items = page.get_by_role("list", name="Labels, most probable first").locator("li")
    return [
        (item.locator(".label").text_content(), item.locator(".value").text_content().split(",")[0])
        for item in items.all()
    ]


def percent(p: float) -> str:
    """A probability as the page writes it."""
    return "< 0.1 %" if p < 0.0005 else "> 99.9 %" if p >= 0.9995 else f"{100 * p:.1f} %"


def as_file(table: list[list[str]], name: str = "tickets.csv") -> dict[str, Any]:
    """A CSV file to be chosen."""
    written = io.StringIO()
    csv.writer(written).writerows(table)
    return {"name": name, "mimeType": "text/csv", "buffer": written.getvalue().encode()}


def label_rows(page: Page, table: list[list[str]], column: str) -> None:
    """Choose a file and its text column, and start."""
    page.get_by_label("or a CSV file").set_input_files(as_file(table))
    page.get_by_label(column, exact=True).check()
    page.get_by_role("button", name="Label all rows").click()


def downloaded(page: Page) -> tuple[str, list[list[str]]]:
    """The labelled file as text and as rows."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    text = Path(download.value.path()).read_bytes().decode("utf-8")
    return text, list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))
