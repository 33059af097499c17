"""``sortal predict``: labels and probabilities for a file, or for lines on stdin."""

from __future__ import annotations

import csv
import json as jsonlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from sortal.cli import output

app = typer.Typer(add_completion=False)
_BATCH = 2048
FORMATS = (".jsonl", ".csv", ".parquet")


@app.command()
def command(
    model_dir: Annotated[str, typer.Argument(help="model folder of a run")],
    data: Annotated[str, typer.Argument(help="a data file, or - for one text per line on stdin")],
    out: Annotated[
        str | None,
        typer.Option(metavar="F", help="output .jsonl, .csv or .parquet; default: JSON lines on stdout"),
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
    json: Annotated[bool, typer.Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Label a file, or lines on stdin."""
    overrides: dict[str, Any] = {"say": output.say}
    if text:
        overrides["text"] = tuple(text)
    if id:
        overrides["id"] = id
    summary = predict(model_dir, data, out=out, top=top, **overrides)
    if json:
        output.summary(summary)


def predict(
    model_dir: str, data: str, *, out: str | None = None, top: int | None = None, **overrides: Any
) -> dict[str, Any]:
    """Stream texts through a saved classifier; the output file appears under its name only when it is complete."""
    from sortal.errors import ConfigError

    if out is not None and Path(out).suffix not in FORMATS:
        raise ConfigError(
            f"--out {out}: unknown format {Path(out).suffix!r}", f"use one of {', '.join(FORMATS)}"
        )
    if out is not None and Path(out).is_dir():
        raise ConfigError(f"--out {out} is a folder", "give the name of a file")
    if out is not None and not Path(out).absolute().parent.is_dir():
        raise ConfigError(
            f"--out {out}: the folder {Path(out).absolute().parent} does not exist",
            "make it, or choose another",
        )
    from sortal.classifier import load
    from sortal.training.progress import NoProgress, TerminalProgress, Within

    classifier = load(model_dir)
    total, pairs = (None, _stdin()) if data == "-" else _file(classifier, data, overrides)
    view = TerminalProgress() if total else NoProgress()
    n = 0
    with ExitStack() as stack:
        write = stack.enter_context(_writer(out, classifier, top))
        view.start("predicting", total or 0)
        stack.callback(view.stop)
        while batch := list(islice(pairs, _BATCH)):
            probabilities = classifier.predict_proba([text for _, text in batch], Within(view))
            write([id_ for id_, _ in batch], probabilities, classifier.decision.decide(probabilities))
            n += len(batch)
    if out is not None:
        output.say(f"{n:,} rows written to {out}")
    return {"rows": n, "out": out}


def _stdin() -> Iterator[tuple[str, str]]:
    lines = (
        sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()
        if sys.stdin.isatty()
        else _decoded(sys.stdin.buffer)
    )
    return ((str(number), line) for number, line in enumerate(lines, start=1))


def _decoded(stream: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(stream):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield text.removeprefix("\ufeff") if number == 0 else text


def _file(classifier: Any, data: str, overrides: dict[str, Any]) -> tuple[int, Iterator[tuple[str, str]]]:
    rows = classifier.read(data, need_labels=False, **overrides)
    return len(rows), zip(rows.ids, rows.iter_texts(), strict=True)


@contextmanager
def _writer(
    out: str | None, classifier: Any, top: int | None
) -> Iterator[Callable[[list[str], Any, Any], None]]:
    if out is not None and Path(out).suffix == ".parquet":
        from sortal.evaluation.predictions import open_predictions

        with open_predictions(out, classifier.label_space, with_gold=False) as writer:
            yield lambda ids, probabilities, decided: writer.write(ids, probabilities, decided)
        return
    with _text_file(out) as file:
        if out is not None and Path(out).suffix == ".csv":
            yield _csv_writer(file, classifier)
        else:
            yield _jsonl_writer(file, classifier, top)


@contextmanager
def _text_file(out: str | None) -> Iterator[IO[str]]:
    if out is None:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        yield sys.stdout
        sys.stdout.flush()
        return
    part = Path(out).with_name(f".{Path(out).name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(out)
    except OSError as error:
        from sortal.errors import ResourceError

        raise ResourceError(
            f"cannot write {out}: {error.strerror or error}", "free disk space, or choose another --out"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _csv_writer(file: IO[str], classifier: Any) -> Callable[[list[str], Any, Any], None]:
    single = classifier.label_space.task == "single"
    names = classifier.classes_
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["id", "label" if single else "labels", *[f"p:{name}" for name in names]])

    def write(ids: list[str], probabilities: Any, decided: Any) -> None:
        for id_, label, row in zip(ids, classifier.labels(decided), probabilities, strict=True):
            answer = (
                (label if label is not None else "")
                if single
                else jsonlib.dumps(list(label), ensure_ascii=False)
            )
            writer.writerow([id_, answer, *[f"{p:.6g}" for p in row]])

    return write


def _jsonl_writer(file: IO[str], classifier: Any, top: int | None) -> Callable[[list[str], Any, Any], None]:
    single = classifier.label_space.task == "single"
    names = classifier.classes_

    def write(ids: list[str], probabilities: Any, decided: Any) -> None:
        for id_, label, row in zip(ids, classifier.labels(decided), probabilities, strict=True):
            order = (-row).argsort(kind="stable")[:top]
            answer = {"label": label} if single else {"labels": list(label)}
            values = {names[i]: round(float(row[i]), 6) for i in order}
            file.write(
                jsonlib.dumps({"id": id_, **answer, "probabilities": values}, ensure_ascii=False) + "\n"
            )

    return write
