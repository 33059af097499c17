"""``sortal compare``: several methods on one split, and which differences are more than chance."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sortal.cli import output
from sortal.cli.options import comma_list
from sortal.config_files import parse_assignments, read_yaml

app = typer.Typer(add_completion=False)
Option, Argument = typer.Option, typer.Argument


@app.command()
def command(
    data: Annotated[
        str,
        Argument(
            help="csv, tsv, jsonl, json, parquet or arrow file, folder with train/dev/test files, or hub id"
        ),
    ] = "",
    methods: Annotated[
        list[str] | None,
        Option(
            metavar="A,B,…",
            help="methods to compare; METHOD+tfidf: with --blend tfidf; METHOD@NAME: with settings of its own; METHOD+METHOD: their scores added; default: majority,tfidf,head,head+tfidf",
        ),
    ] = None,
    seeds: Annotated[
        int, Option(metavar="N", help="training runs of each method; from 3 on seeds are part of the tests")
    ] = 1,
    out: Annotated[
        str | None, Option(metavar="DIR", help="folder of the comparison; given again, it goes on there")
    ] = None,
    metric: Annotated[
        str | None,
        Option(help="what is tested: accuracy (single-label), f1_micro (multi-label), f1_macro, …"),
    ] = None,
    dev: Annotated[str | None, Option(help="development file")] = None,
    test: Annotated[str | None, Option(help="test file")] = None,
    text: Annotated[list[str] | None, Option(metavar="COL…", help="text column(s)")] = None,
    label: Annotated[str | None, Option(metavar="COL", help="label column")] = None,
    label_columns: Annotated[list[str] | None, Option(metavar="A,B,…", help="wide 0/1 label columns")] = None,
    label_delimiter: Annotated[
        str | None, Option(metavar="S", help="separator of several labels in one cell")
    ] = None,
    task: Annotated[str | None, Option(help="auto | single | multi")] = None,
    preset: Annotated[
        str | None,
        Option(help="head: fast | balanced: settings by name; what best adds is head+encoder+tfidf"),
    ] = None,
    unseen_labels: Annotated[
        str | None,
        Option(help="error | drop: labels of dev and test that no training row has"),
    ] = None,
    model: Annotated[
        str | None, Option(metavar="SPEC", help="base model of the methods that tune a causal language model")
    ] = None,
    epochs: Annotated[int | None, Option(help="of the methods that are trained in epochs")] = None,
    budget: Annotated[
        float | None,
        Option(metavar="MINUTES", help="the same training time for every run of a method trained in epochs"),
    ] = None,
    jobs: Annotated[
        int,
        Option(
            metavar="N",
            help="runs at the same time, for a GPU that one small model leaves idle; 0: compare what is finished",
        ),
    ] = 1,
    config: Annotated[str | None, Option(metavar="F.yaml", help="settings file; flags win over it")] = None,
    set_: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="key=value…",
            help="a setting of all methods that have it; METHOD.key=value for one",
        ),
    ] = None,
    json: Annotated[bool, Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Train several methods on the same split, test the differences, and say which to take."""
    from sortal.comparison.compare import METHODS, compare
    from sortal.comparison.tables import (
        cells_table,
        cost_table,
        missed_table,
        notes,
        pairs_table,
        quality_table,
        slices_table,
        twins_rows,
        twins_table,
    )
    from sortal.errors import ConfigError

    given = {
        "data": data or None,
        "dev": dev,
        "test": test,
        "text": comma_list(text),
        "label": label,
        "label_columns": comma_list(label_columns),
        "label_delimiter": label_delimiter,
        "task": task,
        "preset": preset,
        "unseen_labels": unseen_labels,
        "model": model,
        "epochs": epochs,
        "max_minutes": budget,
    }
    values: dict[str, Any] = read_yaml(config) if config else {}
    values |= {key: value for key, value in given.items() if value is not None} | parse_assignments(
        set_ or []
    )
    if not values.get("data"):
        raise ConfigError("no data given", "write sortal compare FILE --out DIR")
    if out is None:
        raise ConfigError("no folder given for the comparison", "write --out DIR")
    for key in ("method", "methods", "seed", "seeds", "metric", "jobs", "out", "say"):
        if key in values:
            raise ConfigError(
                f"{key} is not a setting of a comparison's runs",
                "use --methods, --seeds, --metric, --jobs and --out",
            )
    found = compare(
        values.pop("data"),
        methods=comma_list(methods) or METHODS,
        seeds=seeds,
        out=out,
        metric=metric,
        jobs=jobs,
        say=output.say,
        **values,
    )
    output.show(cells_table(found.cells, found.metric))
    if found.methods:
        output.show(quality_table(found), cost_table(found))
    if found.pairs:
        output.show(pairs_table(found))
    if found.methods and len(twins_rows(found)) > 1:
        output.show(twins_table(found))
    if found.mistakes.slices:
        output.show(slices_table(found))
    if found.mistakes.rows:
        output.show(missed_table(found, 5))
    for line in (*notes(found), *found.advice):
        output.say(line)
    output.say(f"written to {out}; `sortal report {out}` makes a page of it")
    if json:
        output.summary(found.to_json())
