"""``sortal evaluate``: a saved classifier on labelled data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sortal.cli import output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sortal.data.dataset import Dataset

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
    also_label: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            help="single-label: column of further right labels of a row, for figures of main and further labels",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            help="column of what rows belong to (author, patient, document): intervals draw its groups, not rows",
        ),
    ] = None,
    unseen_labels: Annotated[
        str,
        typer.Option(help="error | drop: labels that the model was not trained on"),
    ] = "error",
    seed: Annotated[int, typer.Option(help="of the bootstrap")] = 0,
    weights: Annotated[
        str,
        typer.Option(metavar="NAME", help="saved | int8: 8-bit, faster on a CPU, not quite the same answers"),
    ] = "saved",
    json: Annotated[bool, typer.Option("--json", help="end stdout with a JSON summary")] = False,
) -> None:
    """Measure a saved classifier on labelled data, with intervals."""
    overrides: dict[str, Any] = {"say": output.say}
    if text:
        overrides["text"] = tuple(text)
    if label:
        overrides["label"] = label
    if group:
        overrides["group"] = group
    metrics = evaluate(
        model_dir,
        data,
        out=out,
        also_label=also_label,
        unseen_labels=unseen_labels,
        seed=seed,
        weights=weights,
        **overrides,
    )
    if json:
        output.summary({key: value for key, value in metrics.items() if key not in output.LONG})


def evaluate(
    model_dir: str,
    data: str,
    *,
    out: str | None = None,
    also_label: str | None = None,
    unseen_labels: str = "error",
    seed: int = 0,
    weights: str = "saved",
    **overrides: Any,
) -> dict[str, Any]:
    """Load, read, score, show; returns the content of metrics.json."""
    import numpy as np

    from sortal.classifier import load
    from sortal.config_unseen import check_unseen_labels
    from sortal.data.furtherlabels import read_further_labels
    from sortal.errors import ConfigError
    from sortal.evaluation.clusters import Clusters
    from sortal.evaluation.further import evaluate_further, refuse_multi
    from sortal.evaluation.metrics import evaluate as figures
    from sortal.evaluation.predictions import write_predictions
    from sortal.evaluation.tables import (
        confusion_excerpt,
        levels_table,
        many_labels_tables,
        metrics_table,
        twins_table,
        worst_labels,
    )
    from sortal.evaluation.words import left_out as left_out_words
    from sortal.evaluation.words import twins as twins_words
    from sortal.hierarchy.unseen import leave_out, left_out_figures
    from sortal.training.atomic import write_json
    from sortal.training.progress import TerminalProgress

    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise ConfigError(f"--out {out} is a file, not a folder", "give a folder for the two files")
    if out is not None and (Path(out) / "run.json").exists():
        raise ConfigError(
            f"--out {out} is the folder of a run, whose own figures and predictions would be overwritten",
            "give another folder",
        )
    check_unseen_labels(unseen_labels)
    classifier = load(model_dir, weights=weights)
    further = None
    if also_label is not None:
        refuse_multi(classifier.label_space)
        spelling = classifier.meta["schema"].get("label_spelling")
        further = read_further_labels(data, also_label, overrides.get("say", output.say), spelling)
    rows, left_out = classifier.read(data, **overrides), None
    if unseen_labels == "drop":
        whole = rows
        rows, left_out, sentence = leave_out(whole, classifier.label_space)
        if left_out is not None:
            output.say(sentence)
            if further is not None:
                further = [further[place] for place in np.searchsorted(whole.rows, rows.rows)]
    gold = classifier.label_space.encode(rows)
    scores = classifier.scorer.score(rows.iter_texts(), TerminalProgress())
    clusters = Clusters.of(rows.groups)
    metrics = figures(
        scores,
        gold,
        classifier.decision,
        classifier.label_space,
        seed=seed,
        frequencies=classifier.frequencies,
        clusters=clusters,
    )
    if further is not None:
        _warn_of_unknown(further, classifier.classes_, also_label or "")
        more = evaluate_further(scores, gold, further, classifier.label_space, seed=seed, clusters=clusters)
        intervals = metrics["intervals"] | more.pop("intervals")
        metrics = {**metrics, "also_label": also_label, **more, "intervals": intervals}
    metrics = {"data": data, "model": model_dir, "split": Path(data).name, **metrics}
    if left_out is not None:
        metrics["left_out"] = left_out_figures(left_out, metrics)
    if weights != "saved":
        metrics["weights"] = weights
    probabilities = classifier.decision.probabilities(scores)
    decided = classifier.decision.decide(probabilities)
    folder = None if out is None else Path(out)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    tables = [metrics_table(metrics)]
    if metrics.get("levels"):
        tables.append(levels_table(metrics))
    tables += many_labels_tables(metrics)
    if without := _without_twins(model_dir, rows, gold, decided, folder, seed):
        metrics["without_twins"] = without
        if without["rows"]:
            tables.append(twins_table(metrics))
            output.say(twins_words(without))
    tables.append(worst_labels(metrics, 5))
    if metrics.get("confusions"):
        tables.append(confusion_excerpt(metrics, 5))
    output.show(*tables)
    if left_out is not None:
        output.say(left_out_words(metrics["left_out"], "rows"))
    if folder is not None:
        write_predictions(
            folder / "predictions.parquet",
            rows.ids,
            probabilities,
            decided,
            classifier.label_space,
            gold=gold,
            groups=rows.groups,
        )
        write_json(folder / "metrics.json", metrics)
        output.say(f"written to {folder}")
    return metrics


def _warn_of_unknown(further: Sequence[Sequence[str]], known: Sequence[str], column: str) -> None:
    unknown = Counter(name for names in further for name in set(names) - set(known))
    if unknown:
        name, _ = unknown.most_common(1)[0]
        output.say(
            f"warning: column {column!r} holds {unknown.total():,} labels that the model does not know ({name!r} most often); they count as not found"
        )


def _without_twins(
    model_dir: str, rows: Dataset, gold: NDArray[Any], decided: NDArray[Any], out: Path | None, seed: int
) -> dict[str, Any]:
    """``without_twins`` of metrics.json; empty, which is said, where the rows the model was made with cannot be had."""
    from sortal.checks.twins import context_of, find_twins, write_twins
    from sortal.evaluation.clusters import Clusters
    from sortal.evaluation.without_rows import without_rows
    from sortal.run_parts import parts_behind

    parts, reason = parts_behind(Path(model_dir))
    if parts is None:
        output.say(f"not compared with the rows that the model was made with: {reason}")
        return {}
    context = context_of(parts.train, parts.dev, rows)
    twins = find_twins(context)
    if out is not None:
        (out / "twins.csv").unlink(missing_ok=True)  # of an earlier call
        if len(twins.rows):
            write_twins(out / "twins.csv", twins, context)
    space = parts.label_space
    return twins.counts() | without_rows(
        [(gold, decided)], len(space), space.task, twins.rows, seed=seed, clusters=Clusters.of(rows.groups)
    )
