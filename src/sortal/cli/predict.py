"""``sortal predict``: labels and probabilities for files, or for lines on stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sortal.cli import output

if TYPE_CHECKING:
    from sortal.bulk.engine import Engine
    from sortal.bulk.predict import MakeEngine
    from sortal.training.signals import StopRequest

app = typer.Typer(add_completion=False)
ENGINES = ("local", "ray")
_BATCH = 2048


@app.command()
def command(
    model_dir: Annotated[str, typer.Argument(help="model folder of a run")],
    data: Annotated[
        list[str],
        typer.Argument(
            help="data files, folders of them, globs or URLs (s3://, gs://); or - for one text per line on stdin"
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="F|DIR",
            help="output .jsonl, .csv or .parquet, or a folder for one file per input; default: JSON lines on stdout",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="jsonl | csv | parquet; default: the ending of --out, or of each input"
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="COL…", help="text column(s), when named otherwise here")
    ] = None,
    id: Annotated[
        str | None, typer.Option(metavar="COL", help="row id column; default: the row number")
    ] = None,
    top: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="probabilities of the K best labels only (jsonl)")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="throw away finished parts of another prediction with this --out")
    ] = False,
    engine: Annotated[str, typer.Option(metavar="NAME", help="local | ray")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="copies of the model (ray); default: one per GPU, or per 4 cores"
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="a running Ray cluster; default: $RAY_ADDRESS, or this machine"
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(metavar="NAME", help="saved | int8: 8-bit, faster on a CPU, not quite the same answers"),
    ] = "saved",
    json: Annotated[bool, typer.Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Label files, or lines on stdin. Stopped or killed, the same command goes on where it was."""
    overrides: dict[str, Any] = {"say": output.say}
    if text:
        overrides["text"] = tuple(text)
    if id:
        overrides["id"] = id
    summary = predict(
        model_dir,
        data,
        out=out,
        format=format,
        top=top,
        force=force,
        engine=engine,
        workers=workers,
        address=address,
        weights=weights,
        **overrides,
    )
    if json:
        output.summary(summary)


def predict(
    model_dir: str,
    data: str | Sequence[str],
    *,
    out: str | None = None,
    format: str | None = None,
    top: int | None = None,
    force: bool = False,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    weights: str = "saved",
    **overrides: Any,
) -> dict[str, Any]:
    """Stream texts through a saved classifier; an output file appears under its name only when it is complete."""
    from sortal.bulk.outputs import check_out
    from sortal.errors import ConfigError
    from sortal.model_weights import check_weights

    check_weights(weights)
    words = [data] if isinstance(data, str) else list(data)
    _check(words, out, engine, workers, address)
    if out is not None:
        check_out(out, format)
    elif format not in (None, "jsonl"):
        raise ConfigError(f"--format {format} needs --out", "standard output is JSON lines")
    if words == ["-"]:
        rows = _lines_of_stdin(model_dir, weights, out, format, top)
    elif out is None:
        rows = _files_to_stdout(model_dir, weights, words, top, overrides)
    else:
        from sortal.bulk.predict import predict_files

        overrides = {"say": output.say, **overrides}
        made = _engine(engine, model_dir, weights, workers, address)
        how: dict[str, Any] = {"form": format, "top": top, "force": force, "weights": weights}
        rows = predict_files(model_dir, words, out, made, **how, **overrides)
    if out is not None:
        output.say(f"{rows:,} rows written to {out}")
    return {"rows": rows, "out": out}


def _check(words: list[str], out: str | None, engine: str, workers: int | None, address: str | None) -> None:
    from sortal.errors import ConfigError

    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: no such engine", f"use one of {', '.join(ENGINES)}")
    if "-" in words and (len(words) > 1 or engine != "local"):
        raise ConfigError(
            "- (stdin) cannot be combined with other inputs or --engine", "give files, or - alone"
        )
    if engine == "local" and (workers or address):
        raise ConfigError(
            "--workers and --address are for --engine ray", "add --engine ray, or leave them out"
        )
    if engine == "ray" and out is None:
        raise ConfigError("--engine ray needs --out", "name a file or folder that all workers reach")


def _engine(name: str, model_dir: str, weights: str, workers: int | None, address: str | None) -> MakeEngine:
    if name == "ray":
        from sortal.bulk.ray_engine import ray_engine

        return ray_engine(workers, address)

    def local(stop: StopRequest) -> AbstractContextManager[Engine]:
        from sortal.bulk.local import LocalEngine
        from sortal.classifier import load
        from sortal.training.signals import Stoppable

        return nullcontext(LocalEngine(load(model_dir, weights=weights), Stoppable(stop)))

    return local


def _files_to_stdout(
    model_dir: str, weights: str, words: list[str], top: int | None, overrides: dict[str, Any]
) -> int:
    from pathlib import Path

    from sortal.bulk.formats import Format
    from sortal.bulk.inputs import expand
    from sortal.bulk.plan import plan, total
    from sortal.bulk.predict import readings, refuse_empty
    from sortal.bulk.scoring import ShardScorer
    from sortal.classifier import load
    from sortal.training.progress import TerminalProgress, Within

    columns = dict(overrides)
    say = columns.pop("say", output.say)
    classifier = load(Path(model_dir), weights=weights)
    inputs = expand(words)
    reading = readings(classifier.meta, inputs, columns, named=True)
    plans = [plan(each, how, say) for each, how in zip(inputs, reading, strict=True)]
    refuse_empty(plans)
    scorer, form = ShardScorer(classifier), Format("jsonl", classifier.label_space, top)
    with TerminalProgress() as view:
        view.start("predicting", total(plans))
        for each in plans:
            for _, rows in each.read():
                _write_stdout(scorer.answer(scorer.read(rows), form, Within(view)))
    return total(plans)


def _lines_of_stdin(
    model_dir: str, weights: str, out: str | None, format: str | None, top: int | None
) -> int:
    from pathlib import Path
    from typing import cast

    from sortal.bulk.formats import Format
    from sortal.bulk.outputs import Form, is_folder
    from sortal.bulk.plan import Rows
    from sortal.bulk.scoring import ShardScorer
    from sortal.bulk.storage import storage
    from sortal.classifier import load
    from sortal.errors import ConfigError
    from sortal.training.progress import NoProgress

    if out is not None and is_folder(out):
        raise ConfigError(f"--out {out} is a folder", "give the name of a file for the lines of stdin")
    classifier = load(model_dir, weights=weights)
    form = "jsonl" if out is None else format or Path(out).suffix.removeprefix(".")
    scorer, written = ShardScorer(classifier), Format(cast(Form, form), classifier.label_space, top)
    rows = 0

    def answers() -> Iterator[bytes]:
        nonlocal rows
        pairs = _stdin()
        while batch := list(islice(pairs, _BATCH)):
            ids, texts = map(list, zip(*batch, strict=True))
            yield scorer.answer(scorer.read(Rows(ids, texts)), written, NoProgress())
            rows += len(batch)

    if out is None:
        for answer in answers():
            _write_stdout(answer)
    else:
        with storage(out).appearing(out) as file:
            written.join(answers(), file)
    return rows


def _stdin() -> Iterator[tuple[str, str]]:
    lines = (
        sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()
        if sys.stdin.isatty()
        else _decoded(sys.stdin.buffer)
    )
    return ((str(number), line) for number, line in enumerate(lines, start=1))


def _decoded(stream: Iterable[bytes]) -> Iterator[str]:
    said = False
    for number, line in enumerate(stream):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = line.decode("utf-8", "replace")
            if not said:
                output.say(
                    f"warning: line {number + 1:,} of stdin is not UTF-8; bytes that cannot be read became U+FFFD, there and in lines after it"
                )
            said = True
        text = text.rstrip("\r\n")
        yield text.removeprefix("\ufeff") if number == 0 else text


def _write_stdout(answer: bytes) -> None:
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.write(answer.decode("utf-8"))
    sys.stdout.flush()
