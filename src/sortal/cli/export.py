"""``sortal export``: a model folder for another runtime, checked there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sortal.cli import output

if TYPE_CHECKING:
    from sortal.exporting.export import Export

app = typer.Typer(add_completion=False)


@app.command()
def command(
    model_dir: Annotated[str, typer.Argument(help="model folder of a run")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="hf, vllm, adapter, onnx or gguf")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="the new folder; default: MODEL_DIR-FORMAT")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="F", help="texts to compare on; default: the run's test and dev rows"),
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", help="how many of them")] = 200,
    dtype: Annotated[
        str | None, typer.Option(help="float32 (default), float16 or bfloat16: how weights are stored")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="weights in 8 bits, for onnx and gguf")] = False,
    max_difference: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="fail when a probability differs by more; default: by how weights are stored"
        ),
    ] = None,
    without_blend: Annotated[
        bool,
        typer.Option("--without-blend", help="export a blend's tuned model, without its linear model"),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier export")] = False,
    json: Annotated[bool, typer.Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Write a model for another runtime, load it there, and publish it when its answers are the same."""
    from sortal.exporting.export import export
    from sortal.training.progress import Patient, TerminalProgress

    with TerminalProgress() as progress:
        made = export(
            model_dir,
            to=to,
            out=out,
            data=data,
            rows=rows,
            dtype=dtype,
            int8=int8,
            max_difference=max_difference,
            without_blend=without_blend,
            force=force,
            say=output.say,
            view=Patient(progress),
        )
    output.show(_table(made))
    output.say(f"{made.bytes / 1e6:,.1f} MB in {made.seconds:,.0f} s, on {made.checked}")
    output.say(f"written to {made.folder}; README.md there says how to use it")
    if json:
        output.summary(made.to_json())


def _table(made: Export) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=True)
    table.add_column(f"{made.format}, {made.dtype}, in {made.runtime}, compared with")
    for title in ("rows", "same label", "max |Δp|", "mean |Δp|"):
        table.add_column(title, justify="right")
    compared = [("Sortal in float32", made.agreement)]
    if made.as_run is not None:
        compared.append(("Sortal as sortal predict computes here", made.as_run))
    for name, found in compared:
        table.add_row(
            name,
            f"{found['rows']:,}",
            f"{found['agreeing']:,}",
            f"{found['largest']:.1e}",
            f"{found['mean']:.1e}",
        )
    return table
