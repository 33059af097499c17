"""What was trained on what: settings, data with fingerprints, weights, machine and versions."""

from __future__ import annotations

from typing import Any

from sortal.reporting.blocks import Block, Section, Table
from sortal.reporting.settings import both
from sortal.reporting.source import FinishedRun


def provenance(run: FinishedRun) -> Section:
    """Data, settings that differ from the defaults, all others folded, and the environment."""
    data = run.record["data"]
    parts = [
        [name, f"{part['rows']:,}", part["source"], part["fingerprint"]]
        for name, part in ((name, data[name]) for name in ("train", "dev", "test"))
    ]
    changed, rest = ([[name, _words(value)] for name, value in some.items()] for some in both(run))
    blocks: list[Block] = [
        Table("Data", ["part", "rows", "source", "SHA-256 of texts and labels"], parts, "lrlt"),
        Table(f"Settings of method {run.method} that are not the defaults", ["setting", "value"], changed, "ll"),
        Table("All other settings", ["setting", "value"], rest, "ll", folded=True),
        Table("Weights, machine and versions", ["what", "value"], _environment(run.record), "ll"),
    ]  # fmt: skip
    return Section("provenance", "Data, settings and machine", [b for b in blocks if not isinstance(b, Table) or b.rows])  # fmt: skip


def _environment(record: dict[str, Any]) -> list[list[str]]:
    base, machine = record.get("base_model"), record.get("environment", {})
    rows = []
    if base:
        rows += [
            ["base model", f"{base['spec']}, revision {base['revision'] or 'unknown'}"],
            ["base weights", f"{base['note'] or 'as published'}; fingerprint {base['fingerprint']}"],
            ["base licence", base["licence"] or "unknown"],
        ]
    rows += [
        [key, str(machine[key])] for key in ("device", "processes", "threads", "platform") if key in machine
    ]
    rows += [[f"version of {name}", version] for name, version in machine.get("versions", {}).items()]
    if truncated := record["training"].get("truncated_train_rows"):
        rows.append(
            ["training texts cut to max_length", f"{truncated:,} of {record['data']['train']['rows']:,}"]
        )
    return [*rows, ["started", record.get("started", "")], ["ended", record.get("ended", "")]]


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return (
        "–"
        if value is None
        else repr(value)
        if isinstance(value, str) and not value.isprintable()
        else str(value)
    )
