"""`report`: what a run or a comparison found, as one page that needs no network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sortal.errors import ConfigError
from sortal.reporting.data import data
from sortal.reporting.html import html
from sortal.reporting.markdown import markdown
from sortal.reporting.page import compose
from sortal.reporting.source import read_source
from sortal.training.atomic import write_json, write_text
from sortal.training.runfolder import REPORT_NAMES


@dataclass(frozen=True)
class Report:
    """A written report.

    kind: ``run`` or ``comparison``. verdict, notes: the result and what it cannot tell, in sentences. figures: headline numbers.
    html, markdown, json: paths of the files. html_bytes: size of the page.
    """

    kind: str
    verdict: list[str]
    notes: list[str]
    figures: dict[str, Any]
    html: str
    markdown: str
    json: str
    html_bytes: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def report(folder: str | Path, *, out: str | Path | None = None, texts: bool = True) -> Report:
    """Write ``report.html``, ``report.md`` and ``report.json`` about a run or a comparison.

    Args:
        folder: the ``--out`` folder of `sortal.train` or `sortal.compare`.
        out: the HTML file; the other two lie beside it under the same name. Default: ``report.html`` in ``folder``.
        texts: show the texts of test rows. They are read from the data files that the run names; when these are gone or
            changed, the report is written without texts and says so.

    Raises:
        RunFolderError: not such a folder, nothing in it has finished, or a file in it is missing or damaged.
        ConfigError: ``out`` does not end in .html. ResourceError: the files cannot be written.
    """
    folder = Path(folder)
    target = folder / REPORT_NAMES[0] if out is None else Path(out)
    if target.suffix != ".html" or target.is_dir():
        raise ConfigError(f"--out {target} is not the name of an HTML file", "write --out FILE.html")
    page = compose(read_source(folder), texts)
    beside = target.with_suffix(".md"), target.with_suffix(".json")
    content = html(page)
    write_text(target, content)
    write_text(beside[0], markdown(page))
    write_json(beside[1], data(page))
    return Report(
        page.kind, list(page.verdict), list(page.notes), dict(page.figures),
        str(target), str(beside[0]), str(beside[1]), len(content.encode("utf-8")),
    )  # fmt: skip
