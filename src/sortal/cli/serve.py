"""``sortal serve``: saved classifiers behind HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from sortal.serving.serve import serve
from sortal.serving.settings import Limits

app = typer.Typer(add_completion=False)
Option = typer.Option


@app.command()
def command(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL_DIR", help="model folder of a run, or NAME=DIR for each of several"),
    ],
    name: Annotated[
        str | None, Option(help="what a single model is called; default: its folder, or its run")
    ] = None,
    host: Annotated[str, Option(help="address; one that others reach needs --api-key-file")] = "127.0.0.1",
    port: Annotated[int, Option(help="0 takes a free one, which the log names")] = 8000,
    api_key_file: Annotated[
        str | None, Option(metavar="F", help="file with one key a line; clients send it as Bearer")
    ] = None,
    max_queue: Annotated[
        int, Option(metavar="N", help="texts accepted and not answered yet; past it 429")
    ] = Limits.max_queue,
    max_batch_tokens: Annotated[
        int | None, Option(metavar="N", help="tokens scored together; default: one forward of the model")
    ] = Limits.max_batch_tokens,
    max_latency_ms: Annotated[
        float, Option(metavar="MS", help="how long a text waits for others while the models are idle")
    ] = Limits.max_latency_ms,
    max_texts: Annotated[
        int, Option(metavar="N", help="texts of one request; past it 413")
    ] = Limits.max_texts,
    max_body_bytes: Annotated[
        int, Option(metavar="N", help="bytes of one request; past it 413")
    ] = Limits.max_body_bytes,
    weights: Annotated[
        str, Option(metavar="NAME", help="saved | int8: 8-bit, faster on a CPU, not quite the same answers")
    ] = Limits.weights,
    drain_seconds: Annotated[
        float, Option(metavar="S", help="how long SIGTERM waits for the answers to accepted requests")
    ] = 30.0,
) -> None:
    """Answer POST /predict and /classify with the labels and probabilities that sortal predict gives."""
    serve(
        models,
        name=name,
        host=host,
        port=port,
        api_key_file=api_key_file,
        drain_seconds=drain_seconds,
        max_queue=max_queue,
        max_batch_tokens=max_batch_tokens,
        max_latency_ms=max_latency_ms,
        max_texts=max_texts,
        max_body_bytes=max_body_bytes,
        weights=weights,
    )
