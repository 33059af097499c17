"""``sortal train``: from a labelled file to a run folder."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from sortal.cli import output
from sortal.cli.options import budgets, comma_list
from sortal.config_files import load_config, parse_assignments

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
    dev: Annotated[str | None, Option(help="development file")] = None,
    test: Annotated[str | None, Option(help="test file")] = None,
    text: Annotated[list[str] | None, Option(metavar="COL…", help="text column(s)")] = None,
    text_template: Annotated[
        str | None, Option(help="how several text columns are joined, e.g. '{title}: {body}'")
    ] = None,
    section: Annotated[
        list[str] | None,
        Option(
            metavar="COL=BUDGET…",
            help="text column cut for itself: all, a number of tokens, or rest; in the order of reading",
        ),
    ] = None,
    label: Annotated[str | None, Option(metavar="COL", help="label column")] = None,
    label_columns: Annotated[list[str] | None, Option(metavar="A,B,…", help="wide 0/1 label columns")] = None,
    label_delimiter: Annotated[
        str | None, Option(metavar="S", help="separator of several labels in one cell")
    ] = None,
    path_separator: Annotated[
        str | None, Option(metavar="S", help="labels are paths in a tree, e.g. '/' in A/A01/A01B")
    ] = None,
    level_columns: Annotated[
        list[str] | None, Option(metavar="A,B,…", help="one label column per level of a tree, the top first")
    ] = None,
    parent_map: Annotated[
        str | None, Option(metavar="F.csv", help="CSV with label,parent: the tree of the labels")
    ] = None,
    level: Annotated[
        str | None, Option(metavar="NAME", help="cut the tree of labels below this level")
    ] = None,
    hierarchy: Annotated[
        str | None,
        Option(help="flat | levels | conditional: how a tree of labels is learned (head, encoder, tfidf)"),
    ] = None,
    id: Annotated[str | None, Option(metavar="COL", help="row id column")] = None,
    group: Annotated[
        str | None,
        Option(
            metavar="COL", help="rows with one value here stay in one split, and intervals draw them together"
        ),
    ] = None,
    task: Annotated[str | None, Option(help="auto | single | multi")] = None,
    unseen_labels: Annotated[
        str | None,
        Option(help="error | drop: labels of dev and test that no training row has"),
    ] = None,
    method: Annotated[
        str | None,
        Option(
            help="head | instruct | probe | encoder, or a baseline without a model: tfidf | majority; ensemble adds the scores of several (--members)"
        ),
    ] = None,
    preset: Annotated[
        str | None,
        Option(
            help="head: fast | balanced | best (head, encoder and tfidf, their scores added): settings by name; those given win over them"
        ),
    ] = None,
    model: Annotated[
        str | None,
        Option(metavar="SPEC", help="base model: registry name, folder, GGUF, pypi:NAME or hub id"),
    ] = None,
    quantization: Annotated[str | None, Option(help="none | nf4")] = None,
    tuning: Annotated[str | None, Option(help="encoder: full | lora")] = None,
    pooling: Annotated[
        str | None,
        Option(
            help="head, probe: last (token) | mean (of the tokens' states); encoder: own (its family's head) | mean"
        ),
    ] = None,
    keep_layers: Annotated[
        str | None,
        Option(
            metavar="N", help="head: tune the first N layers only, or auto: up to the best one for a probe"
        ),
    ] = None,
    template: Annotated[
        str | None,
        Option(
            help="head, probe: summary | topic | eos, head also labels; instruct: classify | paper; or your own text with {text}, for head and instruct also {labels}, for instruct {examples}"
        ),
    ] = None,
    prompt_format: Annotated[str | None, Option(help="instruct: auto | chat | plain")] = None,
    verbalizer: Annotated[
        str | None,
        Option(
            help="words | label | codes (instruct) | a CSV or JSON file with each label's wording: what instruct answers, and where the layer on a head's or encoder's states begins"
        ),
    ] = None,
    answer: Annotated[
        str | None, Option(help="instruct, multi-label: list | each (yes or no for every label)")
    ] = None,
    shots: Annotated[
        int | None, Option(metavar="N", help="instruct: show N training rows per label in the prompt")
    ] = None,
    shot_choice: Annotated[
        str | None,
        Option(help="instruct: fixed | nearest (--shots N: the N training rows most like each text)"),
    ] = None,
    shortlist: Annotated[
        int | None,
        Option(metavar="K", help="instruct: list and score only the K likeliest labels per text (TF-IDF)"),
    ] = None,
    max_length: Annotated[int | None, Option(help="tokens per example")] = None,
    truncation: Annotated[
        str | None, Option(help="head | tail | head+tail: what a too long text keeps")
    ] = None,
    windows: Annotated[
        int | None,
        Option(metavar="N", help="read a text longer than max_length in up to N overlapping windows"),
    ] = None,
    stride: Annotated[int | None, Option(metavar="S", help="tokens that neighbouring windows share")] = None,
    aggregation: Annotated[
        str | None, Option(help="mean | max | attention: how windows become one row of scores")
    ] = None,
    epochs: Annotated[int | None, Option()] = None,
    batch_size: Annotated[int | None, Option(help="examples per optimiser step")] = None,
    learning_rate: Annotated[float | None, Option()] = None,
    abstain_below: Annotated[float | None, Option(help="below this probability the answer is null")] = None,
    seed: Annotated[int | None, Option()] = None,
    out: Annotated[str | None, Option(metavar="DIR", help="run folder")] = None,
    config: Annotated[str | None, Option(metavar="F.yaml", help="settings file; flags win over it")] = None,
    set_: Annotated[
        list[str] | None,
        Option("--set", metavar="key=value…", help="any other setting (sortal config schema)"),
    ] = None,
    blend: Annotated[
        str | None,
        Option(
            help="auto | none | tfidf: add the scores of a linear model on TF-IDF features; auto, the default of head, where that takes minutes at most"
        ),
    ] = None,
    members: Annotated[
        str | None,
        Option(
            metavar="RUN,RUN,…",
            help="with --method ensemble: folders of finished runs of the same rows; or methods, which are trained first",
        ),
    ] = None,
    tuned: Annotated[
        str | None,
        Option(
            metavar="RUN",
            help="with --blend tfidf: take the model of this finished run, which is the same but for the blend",
        ),
    ] = None,
    tfidf: Annotated[
        str | None,
        Option(
            metavar="RUN",
            help="with --blend tfidf: take the linear model of this finished run of method tfidf on the same rows",
        ),
    ] = None,
    resume: Annotated[bool, Option("--resume", help="continue the run in --out")] = False,
    force: Annotated[bool, Option("--force", help="resume although data or settings differ")] = False,
    accept_terms: Annotated[bool, Option("--accept-terms", help="accept the base model's own terms")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="show what the model would read, and stop")] = False,
    json: Annotated[bool, Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Train, calibrate and evaluate a classifier on a labelled file."""
    given: dict[str, Any] = {
        "data": data or None,
        "dev": dev,
        "test": test,
        "text": comma_list(text),
        "text_template": text_template,
        "sections": budgets(section),
        "label": label,
        "label_columns": comma_list(label_columns),
        "label_delimiter": label_delimiter,
        "path_separator": path_separator,
        "level_columns": comma_list(level_columns),
        "parent_map": parent_map,
        "level": level,
        "hierarchy": hierarchy,
        "id": id,
        "group": group,
        "task": task,
        "unseen_labels": unseen_labels,
        "method": method,
        "preset": preset,
        "model": model,
        "quantization": quantization,
        "tuning": tuning,
        "pooling": pooling,
        "keep_layers": int(keep_layers) if keep_layers and keep_layers.isdecimal() else keep_layers,
        "template": template,
        "prompt_format": prompt_format,
        "verbalizer": verbalizer,
        "answer": answer,
        "shots": shots,
        "shot_choice": shot_choice,
        "shortlist": shortlist,
        "max_length": max_length,
        "truncation": truncation,
        "windows": windows,
        "stride": stride,
        "aggregation": aggregation,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "abstain_below": abstain_below,
        "blend": blend,
        "members": members,
        "seed": seed,
        "out": out,
    }
    overrides = {key: value for key, value in given.items() if value is not None} | parse_assignments(
        set_ or []
    )
    summary = train(
        overrides,
        config,
        resume=resume,
        force=force,
        consent=accept_terms,
        tuned=tuned,
        tfidf=tfidf,
        dry_run=dry_run,
    )
    if json and summary:  # empty in a process that is not the main one
        output.summary(summary)


def train(
    overrides: dict[str, Any],
    config_file: str | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    consent: bool = False,
    tuned: str | None = None,
    tfidf: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run it and show the result; returns the summary that ``--json`` prints."""
    from sortal.errors import ConfigError

    config = load_config(config_file, overrides)
    if not config.data:
        raise ConfigError("no data given", "write sortal train FILE, or put data: FILE into the config file")
    if dry_run:
        from sortal.dry_run import dry_run as show_rows

        return show_rows(config, say=output.say, consent=consent)
    from sortal.evaluation.tables import (
        confusion_excerpt,
        coverage_table_view,
        levels_table,
        many_labels_tables,
        members_table,
        metrics_table,
        twins_table,
        worst_labels,
    )
    from sortal.evaluation.words import left_out, twins
    from sortal.run import run
    from sortal.run_members import member_figures
    from sortal.training.runfolder import RunFolder

    result = run(
        config, resume=resume, force=force, consent=consent, tuned=tuned, tfidf=tfidf, say=output.say
    )
    if not result.record:  # a process that is not the main one
        return {}
    metrics = result.metrics
    tables = [metrics_table(metrics)] if metrics else []
    if metrics and config.trained_members:
        tables.append(members_table(member_figures(RunFolder(result.folder), result.record), metrics))
    if metrics.get("levels"):
        tables.append(levels_table(metrics))
    if metrics:
        tables += many_labels_tables(metrics)
    seen = metrics.get("without_twins", {}).get("rows", 0)
    if seen:
        tables.append(twins_table(metrics))
    if metrics:
        tables.append(worst_labels(metrics, 5))
    if metrics.get("confusions"):
        tables.append(confusion_excerpt(metrics, 5))
    if metrics.get("coverage_table"):
        tables.append(coverage_table_view(metrics["coverage_table"], config.abstain_below))
    output.show(*tables)
    if metrics.get("left_out"):
        output.say(left_out(metrics["left_out"]))
    if not metrics:
        output.say("no test rows: nothing was measured")
    if seen:
        output.say(f"{twins(metrics['without_twins'])} Pairs are in {result.folder / 'twins.csv'}")
    output.say(f"run folder  {result.folder}\nmodel       {result.folder / 'model'}")
    # Of the methods that are not blended by default, the one for which words were measured to help.
    if config.method == "encoder" and config.blend == "none" and result.record["data"]["dev"]["rows"]:
        tuned, blended = (shlex.quote(str(folder)) for folder in (result.folder, f"{result.folder}-tfidf"))
        output.say(
            f"next        the same command with --blend tfidf --tuned {tuned} --out {blended} adds a linear model "
            "on words, often for the better, and trains nothing again"
        )
    training = result.record.get("training", {})
    return {
        "status": "finished",
        "run_folder": str(result.folder),
        "model": str(result.folder / "model"),
        **{k: v for k, v in metrics.items() if k not in output.LONG},
        "train_seconds": training.get("train_seconds"),
        "tokens_per_second": training.get("tokens_per_second"),
    }
