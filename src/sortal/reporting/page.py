"""Which sections a report has, in the order in which they are read."""

from __future__ import annotations

from typing import Any

import sortal
from sortal.evaluation.words import test_rows
from sortal.reporting import verdict
from sortal.reporting.blocks import Page, Section, Words
from sortal.reporting.rows import TestRows, read_rows
from sortal.reporting.sections.calibration import calibration
from sortal.reporting.sections.checks import checks
from sortal.reporting.sections.confusion import confusion
from sortal.reporting.sections.labels import labels
from sortal.reporting.sections.layers import layers
from sortal.reporting.sections.levels import levels
from sortal.reporting.sections.many_labels import many_labels
from sortal.reporting.sections.mistakes import kinds, missed, mistakes
from sortal.reporting.sections.provenance import provenance
from sortal.reporting.sections.quality import comparison, figures
from sortal.reporting.sections.ranking import ranking
from sortal.reporting.sections.reproduce import reproduce
from sortal.reporting.sections.thresholds import thresholds
from sortal.reporting.sections.twins import figures_without, twins, twins_compared
from sortal.reporting.seen_data import SeenData
from sortal.reporting.source import FinishedRun, Source


def compose(source: Source, with_texts: bool = True) -> Page:
    """The page of a run or a comparison; without ``with_texts`` no test text is in it.

    Raises:
        RunFolderError: predictions are missing or damaged.
    """
    run, found = source.shown, source.comparison
    read = read_rows(run)
    rows = read if with_texts else TestRows(None, None, "Texts are left out, as was asked for.")
    seen = SeenData.of(read, with_texts)
    detail: list[Section | None] = [
        figures(run),
        levels(run),
        confusion(run, rows),
        labels(run),
        many_labels(run),
        calibration(run),
        thresholds(run),
        ranking(run),
    ]
    last = [mistakes(run, rows), checks(seen), provenance(run), reproduce(source)]
    if found is None:
        without = figures_without(run, seen)
        detail.insert(1, twins(run, without, seen))
        sections = [*detail, layers(run), kinds(source, rows), *last]
        said, notes = verdict.of_run(run), verdict.run_notes(run, without)
    else:
        sections = [
            comparison(found),
            twins_compared(found, seen),
            kinds(source, rows),
            missed(found, with_texts),
            layers(_with_layers(source)),
            _about(source),
            *detail,
            *last,
        ]
        said, notes = verdict.of_comparison(found), verdict.comparison_notes(found, run)
    return Page(
        "run" if found is None else "comparison",
        f"{run.method}, seed {run.seed}" if found is None else f"Comparison of {', '.join(m.method for m in found.methods)}",
        f"{'One label' if run.single else 'Several labels'} per text, {run.metrics['n_labels']:,} labels, {test_rows(run.metrics['n'], run.metrics.get('groups'))}, {source.folder.resolve().name}",
        said,
        [*notes, *([rows.reason] if rows.reason else [])],
        [section for section in sections if section is not None],
        f"Sortal {sortal.__version__}",
        _figures(source),
    )  # fmt: skip


def _with_layers(source: Source) -> FinishedRun:
    """The first run that tried layers, or else the one that is shown."""
    return next((run for run in source.runs if run.record["training"].get("layers")), source.shown)


def _about(source: Source) -> Section:
    run = source.shown
    words = f"From here on: {run.folder.path.name}, the first run of the method with the highest {source.metric}. For another run, give its folder: sortal report {source.folder / 'runs' / 'METHOD-SEED'}"
    return Section("details", f"Details of {run.method}, seed {run.seed}", [Words(words)])


def _figures(source: Source) -> dict[str, Any]:
    """Headline numbers, for programs."""
    run = source.shown
    if source.comparison is None:
        kept = {key: value for key, value in run.metrics.items() if isinstance(value, int | float)}
        return {"method": run.method, "seed": run.seed, **kept, "intervals": run.metrics["intervals"]}
    return {
        "metric": source.metric,
        "test_rows": source.comparison.n,
        "methods": {m.method: {"value": m.value, "interval": m.interval, "runs": m.runs} for m in source.comparison.methods},
        "details_of": run.folder.path.name,
    }  # fmt: skip
