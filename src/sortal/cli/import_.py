"""``sortal import``: collections in formats of their own as files that the other verbs read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sortal.cli import output
from sortal.cli.options import comma_list

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def group() -> None:
    """Convert a collection into files to train on."""


@app.command("wipo-alpha")
def command(
    source: Annotated[
        str, typer.Argument(metavar="DIR", help="folder of the collection, with train and test below it")
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="new folder for train.parquet, test.parquet and what was found")
    ],
    language: Annotated[
        list[str] | None,
        typer.Option(
            metavar="L,…", help="languages in order of preference, for records in several; default: en"
        ),
    ] = None,
    titles: Annotated[
        str | None,
        typer.Option(metavar="F.csv", help="table of IPC titles, to word the labels of instruct with"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="processes; default: one per core")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="throw away finished parts of another import with this --out")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """The WIPO-alpha patent collection (XML). Stopped or killed, the same command goes on where it was."""
    summary = wipo_alpha(
        source,
        out,
        languages=comma_list(language) or ("en",),
        titles=titles,
        workers=workers,
        force=force,
    )
    if json:
        output.summary(summary)


def wipo_alpha(
    source: str,
    out: str,
    *,
    languages: Sequence[str] = ("en",),
    titles: str | None = None,
    workers: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Convert, show what was found; returns the content of import.json."""
    from sortal.importing.summary import summary_table
    from sortal.importing.wipo import PROBLEMS, import_wipo
    from sortal.training.progress import TerminalProgress

    summary = import_wipo(
        source,
        out,
        view=TerminalProgress(),
        say=output.say,
        languages=languages,
        titles=titles,
        workers=workers,
        force=force,
    )
    output.show(summary_table(summary))
    if summary["skipped"] or summary["noted"]:
        output.say(f"{out}/{PROBLEMS} names every file that was skipped or contradicts itself")
    for level, found in summary.get("titles", {}).items():
        output.say(f"wording-{level}.csv: {found['with_title']:,} of {found['labels']:,} labels have a title")
    output.say(f"written to {out}")
    return summary
