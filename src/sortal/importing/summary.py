"""What a collection held, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table

from sortal.data.ipc import Level
from sortal.data.problems import counted as number_of
from sortal.data.wipo.layout import PARTS
from sortal.data.wipo.rows import LABEL_COLUMNS
from sortal.importing.shards import Shard

# Levels at which people train.
LEVELS: tuple[Level, ...] = ("section", "class", "subclass", "main_group")


@dataclass
class Summary:
    """Counts over all shards, in the order of their files.

    Attributes:
        files: files found.
        records: rows by part.
        skipped: files without a row, by reason.
        noted: rows that contradict themselves, by kind.
        counted: rows with something missing, or an id that an earlier one has, by kind.
        languages: rows by language, "" where there is none.
        labels: rows of each label, by part and level.
    """

    files: int = 0
    records: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    labels: dict[str, dict[Level, Counter[str]]] = field(
        default_factory=lambda: {part: {level: Counter() for level in LEVELS} for part in PARTS}
    )
    _ids: set[str] = field(default_factory=set)

    def add(self, part: str, shard: Shard) -> None:
        """Count a shard."""
        refused = [problem["kind"] for problem in shard.problems if not problem["row"]]
        self.files += shard.rows.num_rows + len(refused)
        self.records[part] += shard.rows.num_rows
        self.skipped.update(refused)
        self.noted.update(problem["kind"] for problem in shard.problems if problem["row"])
        self.counted.update(shard.counted)
        self.languages.update(value or "" for value in shard.rows["language"].to_pylist())
        for level, names in self.labels[part].items():
            names.update(shard.rows[LABEL_COLUMNS[level][0]].to_pylist())
        for id_ in shard.rows["id"].to_pylist():
            self.counted.update(["repeated id"] if id_ in self._ids else [])
            self._ids.add(id_)

    def only_in_test(self, level: Level) -> Counter[str]:
        """Rows of the labels that training lacks."""
        seen = self.labels["train"][level]
        return Counter({name: n for name, n in self.labels["test"][level].items() if name not in seen})

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, the same for the same files."""
        return {
            "files": self.files,
            "records": {part: self.records[part] for part in PARTS},
            "skipped": _sorted(self.skipped),
            "noted": _sorted(self.noted),
            "missing": _sorted(self.counted),
            "languages": _sorted(self.languages),
            "labels": {
                level: {part: len(self.labels[part][level]) for part in PARTS}
                | {"only_in_test": _sorted(self.only_in_test(level))}
                for level in LEVELS
            },
        }


def summary_table(summary: dict[str, Any]) -> Table:
    """What was read, skipped and noted."""
    table = Table(
        title=f"{number_of(summary['files'], 'file')}, {number_of(sum(summary['records'].values()), 'record')}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    table.add_column("what", no_wrap=True)
    table.add_column("number", justify="right", no_wrap=True)
    for part, rows in summary["records"].items():
        table.add_row(f"{part} records", f"{rows:,}")
    for level, found in summary["labels"].items():
        table.add_row(f"labels of level {level}, train / test", f"{found['train']:,} / {found['test']:,}")
        if found["only_in_test"]:
            rows = sum(found["only_in_test"].values())
            table.add_row(f"  of these in test only: {len(found['only_in_test']):,}, records", f"{rows:,}")
    for language, rows in summary["languages"].items():
        table.add_row(f"language {language or 'not said'}", f"{rows:,}")
    for title, kinds in (("skipped", "skipped"), ("kept", "noted"), ("kept", "missing")):
        for kind, rows in summary[kinds].items():
            table.add_row(f"{title}: {kind}", f"{rows:,}")
    return table


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
