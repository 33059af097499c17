"""``sortal check``: what is wrong with labelled data, before anything is trained on it."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from sortal.cli import output
from sortal.cli.options import comma_list

app = typer.Typer(add_completion=False)
Option = typer.Option


@app.command()
def command(
    data: Annotated[
        str,
        typer.Argument(
            help="csv, tsv, jsonl, json, parquet or arrow file, folder with train/dev/test files, or hub id"
        ),
    ],
    dev: Annotated[str | None, Option(help="development file")] = None,
    test: Annotated[str | None, Option(help="test file")] = None,
    text: Annotated[list[str] | None, Option(metavar="COL…", help="text column(s)")] = None,
    text_template: Annotated[
        str | None, Option(help="how several text columns are joined, e.g. '{title}: {body}'")
    ] = None,
    label: Annotated[str | None, Option(metavar="COL", help="label column")] = None,
    label_columns: Annotated[list[str] | None, Option(metavar="A,B,…", help="wide 0/1 label columns")] = None,
    label_delimiter: Annotated[
        str | None, Option(metavar="S", help="separator of several labels in one cell")
    ] = None,
    task: Annotated[str, Option(help="auto | single | multi")] = "auto",
    max_length: Annotated[
        int | None, Option(metavar="N", help="say what is cut at N words, or tokens of --model")
    ] = None,
    model: Annotated[
        str | None, Option(metavar="SPEC", help="whose tokenizer counts for --max-length")
    ] = None,
    date: Annotated[
        str | None, Option(metavar="COL", help="date column: is the model measured on what came later?")
    ] = None,
    only: Annotated[list[str] | None, Option(metavar="A,B,…", help="only these checks")] = None,
    fix: Annotated[
        str | None,
        Option(
            metavar="OUT", help="write a cleaned copy (.csv, .tsv, .jsonl or .parquet) and a log beside it"
        ),
    ] = None,
    ranking: Annotated[
        str | None,
        Option(metavar="OUT.csv", help="write every training row here, the likeliest wrong label first"),
    ] = None,
    seed: Annotated[int, Option(help="of hash functions and folds")] = 0,
    json: Annotated[bool, Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Look for duplicates, leaks, conflicting and doubtful labels, broken texts and more."""
    from sortal.checks.check import check
    from sortal.checks.tables import findings_detail, findings_table, summary_line
    from sortal.data.problems import counted

    report = check(
        data,
        dev=dev,
        test=test,
        text=tuple(comma_list(text) or ()),
        text_template=text_template,
        label=label,
        label_columns=tuple(comma_list(label_columns) or ()),
        label_delimiter=label_delimiter,
        task=cast(Any, task),  # refused there when it is none of the three
        max_length=max_length,
        model=model,
        date=date,
        only=comma_list(only) or (),
        fix=fix,
        ranking=ranking,
        seed=seed,
        say=output.say,
    )
    if report.findings:
        output.show(findings_detail(report), findings_table(report))
    for name, why in report.not_checked.items():
        output.say(f"{name} was not checked: {why}")
    output.say(summary_line(report))
    if report.cleaned is not None:
        done = report.cleaned
        output.say(
            f"{done.rows:,} rows written to {done.out} ({done.removed:,} removed, {done.changed:,} changed); "
            f"{done.log} says why, and lists {counted(done.left, 'row')} left for you to decide"
        )
    if report.ranking is not None:
        output.say(f"every row with its score is in {report.ranking}, the likeliest wrong label first")
    if json:
        output.summary(report.to_json())
