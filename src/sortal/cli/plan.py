"""``sortal plan``: what a training run would take, before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sortal.cli import output
from sortal.cli.options import comma_list
from sortal.config_files import load_config, parse_assignments

if TYPE_CHECKING:
    from rich.table import Table

    from sortal.planning import Fit, Plan

app = typer.Typer(add_completion=False)
Option, Argument = typer.Option, typer.Argument


@app.command()
def command(
    data: Annotated[str, Argument(help="the data of the run, as for `sortal train`")] = "",
    text: Annotated[list[str] | None, Option(metavar="COL…", help="text column(s)")] = None,
    label: Annotated[str | None, Option(metavar="COL", help="label column")] = None,
    label_columns: Annotated[list[str] | None, Option(metavar="A,B,…", help="wide 0/1 label columns")] = None,
    label_delimiter: Annotated[
        str | None, Option(metavar="S", help="separator of several labels in one cell")
    ] = None,
    method: Annotated[str | None, Option(help="head | instruct | encoder")] = None,
    preset: Annotated[
        str | None, Option(help="head: fast | balanced | best: settings by name; those given win over them")
    ] = None,
    model: Annotated[
        str | None,
        Option(
            metavar="SPEC",
            help="base model; of one on the hub config and tokenizer are fetched and no weights, and a folder needs no weights either",
        ),
    ] = None,
    quantization: Annotated[str | None, Option(help="none | nf4: of this machine's line")] = None,
    max_length: Annotated[int | None, Option(metavar="N", help="tokens per example")] = None,
    epochs: Annotated[int | None, Option(metavar="N", help="passes over the training rows")] = None,
    config: Annotated[str | None, Option(metavar="FILE", help="YAML file of settings")] = None,
    set_: Annotated[
        list[str] | None, Option("--set", metavar="KEY=VALUE…", help="any setting of `sortal config schema`")
    ] = None,
    accept_terms: Annotated[bool, Option(help="accept the terms of a model that asks for it")] = False,
    json: Annotated[bool, Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Estimate memory, tokens and time of a training run, and which GPUs it fits on."""
    given = {
        "data": data or None,
        "text": comma_list(text),
        "label": label,
        "label_columns": comma_list(label_columns),
        "label_delimiter": label_delimiter,
        "method": method,
        "preset": preset,
        "model": model,
        "quantization": quantization,
        "max_length": max_length,
        "epochs": epochs,
    }
    found = plan(
        {key: value for key, value in given.items() if value is not None} | parse_assignments(set_ or []),
        config,
        consent=accept_terms,
    )
    _show(found)
    if json:
        output.summary(found.to_json())


def plan(overrides: dict[str, Any], config_file: str | None = None, *, consent: bool = False) -> Plan:
    """The plan of a run with these settings."""
    from sortal.errors import ConfigError

    config = load_config(config_file, overrides)
    if not config.data:
        raise ConfigError("no data given", "write sortal plan FILE, or put data: FILE into the config file")
    from sortal import planning

    return planning.plan(config, say=output.say, consent=consent)


def _show(plan: Plan) -> None:
    from rich import box
    from rich.table import Table

    from sortal.training.forecast import duration

    output.say(
        f"{plan.rows:,} training rows, {plan.tokens_per_epoch:,} tokens per epoch (longest {plan.longest:,}, {plan.truncated:,} rows cut)"
        + (f", {plan.shared_tokens:,} more in every microbatch for the prompt" if plan.shared_tokens else "")
        + f"; {plan.steps:,} steps of {plan.batch_size} in {plan.epochs} epochs"
    )
    output.say(
        f"{plan.model}: {plan.parameters:,} parameters; here {plan.weight_bytes / 1e9:.2f} GB of weights, {plan.trained_bytes / 1e9:.2f} GB for what is trained"
    )
    names = {"none": "16 bits" if len(plan.fits) > 1 else "", "nf4": "NF4"}
    output.say("tokens in a microbatch, by GPU memory:")  # as a title it would be as narrow as the table
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("GPU", justify="right")
    for name in plan.fits:
        table.add_column(names[name], justify="right")
    for size in next(iter(plan.fits.values())):
        table.add_row(f"{size} GB", *(_cell(fits[size]) for fits in plan.fits.values()))
    output.show(table)
    least, most = plan.seconds
    output.say(
        f"this machine ({plan.device}): {_cell(plan.here)}, peak {plan.here.peak_bytes / 1e9:.1f} GB; training {duration(least)} to {duration(most)}"
        f" with {plan.matrix_flops / 1e12:.2f} TFLOP/s of matrix products, measured now"
    )
    if plan.presets:
        output.show(_presets(plan))


def _presets(plan: Plan) -> Table:
    """The presets side by side."""
    from rich import box
    from rich.table import Table

    from sortal.training.forecast import duration

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("preset")
    for name in ("training", "peak memory", "on disk"):
        table.add_column(name, justify="right")
    for name, found in plan.presets.items():
        least, most = (duration(each) for each in found.seconds)
        more = "" if found.blend == "none" else f" + {found.blend}"
        disk = f"{found.state_bytes / 1e9:.2f} GB" if found.state_bytes else "–"
        table.add_row(name, f"{least} to {most}{more}", f"{found.peak_bytes / 1e9:.1f} GB", disk)
    return table


def _cell(fit: Fit) -> str:
    if not fit.max_tokens:
        return "does not fit"
    return f"{fit.max_tokens:,}" + (", layers computed twice" if fit.checkpointing else "")
