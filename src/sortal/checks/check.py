"""`check`: what is wrong with labelled data, and a cleaned copy of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sortal.checks import get_checks
from sortal.checks.base import SEVERITIES, CheckContext, Finding, NotChecked
from sortal.checks.cleaning import Cleaned, clean, log_path, refuse_out
from sortal.checks.dates import read_dates
from sortal.checks.noise_ranking import refuse_ranking, write_ranking
from sortal.checks.units import Tokens, Words
from sortal.data.files import part_files
from sortal.data.reading import read
from sortal.data.records import Say, only_warnings, say_on_stderr
from sortal.errors import ConfigError
from sortal.training.progress import Patient, ProgressView, TerminalProgress

SHOWN = 5
_TEXT = 120  # characters of an example's text


@dataclass(frozen=True)
class Example:
    """A row that shows a finding: its file, 1-based row number, text (its beginning) and what is to be said about it."""

    file: str
    row: int
    text: str
    note: str


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What was found, the most severe and most frequent first.

    Attributes:
        context: the data that was checked.
        findings: `sortal.checks.base.Finding`; ``rows`` holds all rows of each.
        not_checked: check → why it did not apply.
        seconds: check → seconds it took; what several checks need counts for the first.
        cleaned: what ``fix`` wrote, or None.
        ranking: the file that ``ranking`` named, where it was written.
    """

    context: CheckContext
    findings: tuple[Finding, ...]
    not_checked: dict[str, str]
    seconds: dict[str, float]
    cleaned: Cleaned | None = None
    ranking: str | None = None

    def examples(self, finding: Finding, most: int = SHOWN) -> list[Example]:
        """The first rows of a finding."""
        dataset = self.context.parts[finding.part]
        rows = finding.rows[:most]
        return [
            Example(dataset.source, int(dataset.rows[row]), _beginning(text), finding.note(i))
            for i, (row, text) in enumerate(zip(rows.tolist(), dataset.text_at(rows), strict=True))
        ]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        labels = self.context.labels
        return {
            "parts": {
                part: {
                    "source": dataset.source,
                    "rows": len(dataset),
                    "labels": int((labels.counts(part) > 0).sum()),
                }
                for part, dataset in self.context.parts.items()
            },
            "task": self.context.train.task,
            "counts": {
                severity: sum(finding.severity == severity for finding in self.findings)
                for severity in SEVERITIES
            },
            "findings": [
                {
                    "check": finding.check,
                    "severity": finding.severity,
                    "part": finding.part,
                    "count": finding.count,
                    "unit": finding.unit,
                    "what": finding.what,
                    "advice": finding.advice,
                    "examples": [vars(example) for example in self.examples(finding)],
                }
                for finding in self.findings
            ],
            "not_checked": self.not_checked,
            "seconds": {name: round(seconds, 3) for name, seconds in self.seconds.items()},
            "cleaned": None if self.cleaned is None else self.cleaned.to_json(),
            "ranking": self.ranking,
        }


def check(
    data: str | Path,
    *,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    text: Sequence[str] = (),
    text_template: str | None = None,
    label: str | None = None,
    label_columns: Sequence[str] = (),
    label_delimiter: str | None = None,
    task: Literal["auto", "single", "multi"] = "auto",
    max_length: int | None = None,
    model: str | None = None,
    date: str | None = None,
    only: Sequence[str] = (),
    fix: str | Path | None = None,
    ranking: str | Path | None = None,
    seed: int = 0,
    say: Say = say_on_stderr,
    view: ProgressView | None = None,
) -> CheckReport:
    """Look for what spoils training or makes its figures wrong.

    Args:
        data: as for `sortal.train`; a folder or hub id gives all parts it has.
        dev: development file.
        test: test file.
        text: column(s) of the text; default: found by name.
        text_template: how several are joined.
        label: column of the label; default: found by name.
        label_columns: wide 0/1 columns, one per label.
        label_delimiter: separator of several labels in one cell.
        task: one label per row, any number, or inferred.
        max_length: what a text would be cut to: words, or tokens when ``model`` is named.
        model: a model spec; its tokenizer counts.
        date: a column with dates, in every file.
        only: names of checks (`sortal.checks.REGISTRY`); default all.
        fix: write a cleaned copy of ``data`` here (.csv, .tsv, .jsonl or .parquet) and a log beside it; ``data`` itself is only read.
        ranking: write a CSV here with a line per row of ``data``, the likeliest wrong label first.
        seed: of hash functions and folds.
        say: receives one sentence for everything that was inferred.
        view: shows progress; default: a bar when it takes more than two seconds.

    Raises:
        DataError: a file cannot be read, or its labels cannot be told.
        ConfigError: arguments that cannot work. ModelError: no such model. ResourceError: the copy cannot be written.
    """
    checks = get_checks((only,) if isinstance(only, str) else only)
    _refuse(task, max_length, model)
    files = part_files(data, dev, test)
    if fix is not None:
        refuse_out(Path(fix), files)
    if ranking is not None:
        copy = {} if fix is None else {"copy": str(fix), "log": str(log_path(Path(fix)))}
        refuse_ranking(Path(ranking), files | copy)
    unit = Words() if model is None else Tokens.of(model, say)  # a model that is not there is told at once
    train = read(
        files["train"],
        text=text,
        text_template=text_template,
        label=label,
        label_columns=label_columns,
        label_delimiter=label_delimiter,
        task=task,
        say=say,
    )
    arguments = train.schema.arguments()
    parts = {"train": train} | {
        part: read(path, **arguments, say=only_warnings(say))
        for part, path in files.items()
        if part != "train"
    }
    context = CheckContext(
        parts,
        None if date is None else {part: read_dates(files[part], date, _silent) for part in parts},
        max_length,
        unit,
        seed,
        view or Patient(TerminalProgress()),
    )
    report = run_checks(context, list(checks))
    cleaned = None if fix is None else clean(context, report.findings, Path(fix))
    written = None
    if ranking is not None:
        try:
            write_ranking(Path(ranking), context)
            written = str(ranking)
        except NotChecked as why:
            say(f"no ranking was written: {why}")
    return replace(report, cleaned=cleaned, ranking=written)


def run_checks(context: CheckContext, only: Sequence[str] = ()) -> CheckReport:
    """The checks called ``only``, or all, on data that is read already.

    Raises:
        ConfigError: there is no such check.
    """
    findings: list[Finding] = []
    not_checked: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name, run in get_checks(only).items():
        began = time.monotonic()
        try:
            findings += run(context)
        except NotChecked as why:
            not_checked[name] = str(why)
        seconds[name] = time.monotonic() - began
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), -finding.count))
    return CheckReport(context, tuple(findings), not_checked, seconds)


def _refuse(task: str, max_length: int | None, model: str | None) -> None:
    if task not in ("auto", "single", "multi"):
        raise ConfigError(f"task {task!r} is not auto, single or multi", "give one of the three")
    if max_length is not None and max_length < 1:
        raise ConfigError(
            f"max_length {max_length} is less than one word", "give a number from 1 on, or leave it out"
        )
    if model is not None and max_length is None:
        raise ConfigError(
            "model without max_length measures nothing",
            "give both, as in --max-length 256 --model smollm2-135m",
        )


def _silent(line: str) -> None:
    del line


def _beginning(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT] + "…"
