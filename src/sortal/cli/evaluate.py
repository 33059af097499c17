"""``sortal evaluate``: a saved classifier on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sortal.cli import output

app = typer.Typer(add_completion=False)


@app.command()
def command(
    model_dir: Annotated[str, typer.Argument(help="model folder of a run")],
    data: Annotated[str, typer.Argument(help="labelled data, with the columns of the training data")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="write metrics.json and predictions.parquet here")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="COL…", help="text column(s), when named otherwise here")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COL", help="label column, when named otherwise here")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the bootstrap")] = 0,
    json: Annotated[bool, typer.Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Measure a saved classifier on labelled data, with intervals."""
    overrides: dict[str, Any] = {"say": output.say}
    if text:
        overrides["text"] = tuple(text)
    if label:
        overrides["label"] = label
    metrics = evaluate(model_dir, data, out=out, seed=seed, **overrides)
    if json:
        output.summary({key: value for key, value in metrics.items() if key not in output.LONG})


def evaluate(
    model_dir: str, data: str, *, out: str | None = None, seed: int = 0, **overrides: Any
) -> dict[str, Any]:
    """Load, read, score, show; returns the content of metrics.json."""
    from sortal.backbone.kernels import bound_kernels

    bound_kernels()  # before torch
    from sortal.classifier import load
    from sortal.errors import ConfigError
    from sortal.evaluation.metrics import evaluate as figures
    from sortal.evaluation.predictions import write_predictions
    from sortal.evaluation.tables import confusion_excerpt, metrics_table, worst_labels
    from sortal.training.atomic import write_json
    from sortal.training.progress import TerminalProgress

    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise ConfigError(f"--out {out} is a file, not a folder", "give a folder for the two files")
    classifier = load(model_dir)
    rows = classifier.read(data, **overrides)
    gold = classifier.label_space.encode(rows)
    scores = classifier.scorer.score(rows.iter_texts(), TerminalProgress())
    metrics = figures(scores, gold, classifier.decision, classifier.label_space, seed=seed)
    metrics = {"data": data, "model": model_dir, "split": Path(data).name, **metrics}
    tables = [metrics_table(metrics), worst_labels(metrics, 5)]
    if metrics.get("confusions"):
        tables.append(confusion_excerpt(metrics, 5))
    output.show(*tables)
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        probabilities = classifier.decision.probabilities(scores)
        decided = classifier.decision.decide(probabilities)
        write_predictions(
            folder / "predictions.parquet",
            rows.ids,
            probabilities,
            decided,
            classifier.label_space,
            gold=gold,
        )
        write_json(folder / "metrics.json", metrics)
        output.say(f"written to {folder}")
    return metrics
