"""What the checks of `sortal check` find in the rows of a run: how serious, how many, examples, what to do."""

from __future__ import annotations

from sortal.checks.base import Finding
from sortal.checks.check import CheckReport
from sortal.checks.tables import summary_line
from sortal.data.problems import counted
from sortal.reporting.blocks import Block, Section, Table, Words
from sortal.reporting.formats import text
from sortal.reporting.seen_data import SeenData

_TEXT, _NOTE = 160, 160


def checks(seen: SeenData) -> Section:
    """A table of all findings and, folded, up to five rows that show each; where the data is gone, the reason."""
    if seen.found is None:
        return _section([Words(f"The data was not checked. {seen.reason}")])
    report = seen.found
    blocks: list[Block] = [Words(f"{summary_line(report)}.")]
    if report.findings:
        rows = [_summary(finding) for finding in report.findings]
        header = ["check", "severity", "part", "count", "what", "what to do"]
        blocks.append(Table("Findings, the most severe first", header, rows, "lllrtt"))
    blocks += [_examples(report, finding, seen.with_texts) for finding in report.findings]
    if report.not_checked:
        left = "; ".join(f"{name}: {why}" for name, why in report.not_checked.items())
        blocks.append(Words(f"Not checked: {left}."))
    return _section(blocks)


def _section(blocks: list[Block]) -> Section:
    return Section("checks", "Data checks", blocks)


def _summary(finding: Finding) -> list[str]:
    return [
        finding.check,
        finding.severity,
        finding.part,
        counted(finding.count, finding.unit),
        text(finding.what),
        text(finding.advice),
    ]


def _examples(report: CheckReport, finding: Finding, with_texts: bool) -> Table:
    found = report.examples(finding)
    shown = f"{len(found)} of {len(finding.rows):,} rows" if len(found) < len(finding.rows) else "all rows"
    source = text(report.context.parts[finding.part].source, 60)
    caption = f"{finding.check}, {finding.severity}, {finding.part}: {shown}, as numbered in {source}"
    if not with_texts:  # what is said about a row may quote it
        return Table(caption, ["row"], [[f"{one.row:,}"] for one in found], "l", folded=True)
    rows = [
        [f"{one.row:,}", text(one.text, _TEXT) or "(empty)", text(one.note, _NOTE) or "–"] for one in found
    ]
    return Table(caption, ["row", "text", "why"], rows, "ltt", folded=True)
