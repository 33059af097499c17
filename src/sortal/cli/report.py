"""``sortal report``: one page about a run or a comparison."""

from __future__ import annotations

from typing import Annotated

import typer

from sortal.cli import output

app = typer.Typer(add_completion=False)


@app.command()
def command(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="folder of sortal train --out or sortal compare --out")
    ],
    out: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="the page; default: DIR/report.html")
    ] = None,
    texts: Annotated[bool, typer.Option(help="show texts of test rows")] = True,
    json: Annotated[bool, typer.Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Write a self-contained HTML page with figures, plots and mistakes; also as Markdown and JSON."""
    from sortal.reporting.report import report

    made = report(folder, out=out, texts=texts)
    for line in (*made.verdict, *made.notes):
        output.say(line)
    output.say(f"written to {made.html}, {made.markdown} and {made.json}")
    if json:
        output.summary(made.to_json())
