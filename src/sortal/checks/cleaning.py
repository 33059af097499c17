"""`--fix`: a cleaned copy of the training file and a log of every row that was changed or left for a person to decide.

The file itself is only read. What is written appears under its name complete or not at all.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.checks.base import CheckContext, Finding
from sortal.checks.labelcells import renamed
from sortal.checks.remedies import Drop, Relabel, Rewrite
from sortal.checks.tablefiles import FORMATS, write_table
from sortal.data.files import open_source
from sortal.data.records import Batch
from sortal.errors import ConfigError, DataError
from sortal.training.atomic import atomic_file

Flags = npt.NDArray[np.bool_]
_LOG = ("file", "row", "check", "severity", "action", "detail")


@dataclass(frozen=True)
class Cleaned:
    """What was written.

    Attributes:
        out: the cleaned copy.
        log: a CSV with file, row, check, severity, action and detail of every row that a finding concerns.
        rows: rows in the copy.
        removed, changed: rows left out, and rows with another text or label.
        left: lines of the log about rows that were left as they are.
    """

    out: str
    log: str
    rows: int
    removed: int
    changed: int
    left: int

    def to_json(self) -> dict[str, str | int]:
        """A JSON-ready dict."""
        return asdict(self)


def log_path(out: Path) -> Path:
    """``clean.log.csv`` beside ``clean.csv``."""
    return out.with_suffix(".log.csv")


def refuse_out(out: Path, files: Mapping[str, str]) -> None:
    """Refuse a place for the copy before anything is read.

    Raises:
        ConfigError: an unknown format, a folder, a folder that is missing, or one of the files that are checked.
    """
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--fix {out}: unknown format {out.suffix!r}", f"use one of {', '.join(FORMATS)}")
    if out.is_dir():
        raise ConfigError(f"--fix {out} is a folder", "give the name of a file")
    if not out.absolute().parent.is_dir():
        raise ConfigError(
            f"--fix {out}: the folder {out.absolute().parent} does not exist", "make it, or choose another"
        )
    for path in (out, log_path(out)):
        for source in files.values():
            if path.resolve() == Path(source).resolve():
                raise ConfigError(
                    f"--fix {out} would overwrite {source}, which is checked", "choose another name"
                )


def clean(context: CheckContext, findings: Sequence[Finding], out: Path) -> Cleaned:
    """Write the copy and its log.

    Raises:
        DataError: the file changed while it was checked. ResourceError: the disk is full, or the folder cannot be written.
    """
    edits = _Edits.of(findings)
    removed = edits.dropped(len(context.train))
    records = open_source(context.train.source, lambda line: None)

    def batches() -> Iterator[Batch]:
        seen = 0
        for batch in records.batches():
            seen += batch.size
            yield edits.applied(batch, context, removed)
        if seen != len(context.train):
            raise DataError(f"{context.train.source} changed while it was checked", "run the check again")

    log = log_path(out)
    write_table(out, records.all_columns(), batches)
    left = _write_log(log, context, findings)
    changed = len(edits.changed - set(np.flatnonzero(removed).tolist()))
    return Cleaned(str(out), str(log), int((~removed).sum()), int(removed.sum()), changed, left)


@dataclass(frozen=True, eq=False)
class _Edits:
    """What is done to which row (0-based)."""

    drops: tuple[Drop, ...]
    rewrites: Mapping[int, Callable[[str], str]]
    names: Mapping[str, str]
    relabelled: frozenset[int]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> _Edits:
        remedies = [remedy for finding in findings for remedy in finding.remedies]
        relabels = [remedy for remedy in remedies if isinstance(remedy, Relabel)]
        return cls(
            tuple(remedy for remedy in remedies if isinstance(remedy, Drop)),
            {
                row: remedy.repair
                for remedy in remedies
                if isinstance(remedy, Rewrite)
                for row in remedy.rows.tolist()
            },
            {old: new for remedy in relabels for old, new in remedy.names.items()},
            frozenset(row for remedy in relabels for row in remedy.rows.tolist()),
        )

    @property
    def changed(self) -> set[int]:
        return set(self.rewrites) | self.relabelled

    def dropped(self, n: int) -> Flags:
        gone = np.zeros(n, bool)
        for drop in self.drops:
            gone[drop.rows] = True
        return gone

    def applied(self, batch: Batch, context: CheckContext, removed: Flags) -> Batch:
        """The batch without the rows that go and with the cells that change."""
        schema = context.train.schema
        columns = {name: list(cells) for name, cells in batch.columns.items()}
        start = batch.first_row - 1
        for place in range(batch.size):
            row = start + place
            if row in self.rewrites:
                for cells in (columns[name] for name in schema.text if name in columns):
                    if isinstance(cells[place], str):
                        cells[place] = self.rewrites[row](cells[place])
            if row in self.relabelled and schema.label:
                cells = columns[schema.label]
                cells[place] = renamed(cells[place], self.names, schema.label_delimiter)
        if schema.task == "single" and schema.label:
            # fastText's lists of one label would make another format's file look multi-label.
            columns[schema.label] = [_alone(cell) for cell in columns[schema.label]]
        kept = np.flatnonzero(~removed[start : start + batch.size]).tolist()
        return Batch(
            {name: [cells[place] for place in kept] for name, cells in columns.items()},
            len(kept),
            batch.first_row,
        )


def _alone(cell: Any) -> Any:
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


def _write_log(path: Path, context: CheckContext, findings: Sequence[Finding]) -> int:
    """The log; returns how many lines say ``left``."""
    left = 0
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_LOG)
        for finding in findings:
            for remedy in finding.remedies:
                for i, row in enumerate(remedy.rows.tolist()):
                    detail = remedy.why(i) if isinstance(remedy, Drop) else finding.what
                    writer.writerow(_line(context, finding, "train", row, remedy.action, detail))
            if finding.remedies:
                continue
            for i, row in enumerate(finding.rows.tolist()):
                writer.writerow(_line(context, finding, finding.part, row, "left", finding.note(i)))
                left += 1
    return left


def _line(
    context: CheckContext, finding: Finding, part: str, row: int, action: str, detail: str
) -> tuple[str | int, ...]:
    dataset = context.parts[part]
    return dataset.source, int(dataset.rows[row]), finding.check, finding.severity, action, detail
