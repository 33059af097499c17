"""Terminal views of a check."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sortal.checks.base import SEVERITIES, Severity
from sortal.checks.check import CheckReport
from sortal.data.problems import counted

_STYLE: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def findings_table(report: CheckReport) -> Table:
    """One line per finding: severity, check, part and how many rows or labels."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
        title="Findings",
        title_justify="left",
        title_style="bold",
    )
    for name in ("severity", "check", "part"):
        table.add_column(name, no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    for finding in report.findings:
        severity = f"[{_STYLE[finding.severity]}]{finding.severity}[/]"
        table.add_row(severity, finding.check, finding.part, counted(finding.count, finding.unit))
    return table


def findings_detail(report: CheckReport) -> RenderableType:
    """What was found and what to do, with the rows that show it."""
    blocks: list[RenderableType] = []
    for finding in report.findings:
        head = Text.assemble(
            (finding.severity, _STYLE[finding.severity]), (f" {finding.check}", "bold"), f": {finding.what}."
        )
        blocks += [Text(), head, Padding(Text(f"→ {finding.advice}."), (0, 0, 0, 2))]
        for example in report.examples(finding):
            where = f"row {example.row:,}"
            shown = Text(f"{where}  {_on_one_line(example.text)}", no_wrap=True, overflow="ellipsis")
            blocks.append(Padding(shown, (0, 0, 0, 4)))
            if example.note:
                blocks.append(Padding(Text(example.note, style="dim"), (0, 0, 0, 6 + len(where))))
    return Group(*blocks)


def summary_line(report: CheckReport) -> str:
    """``3 errors, 1 warning, 4 notes in 2,045 rows of train.csv and 582 of test.csv``."""
    counts = [
        counted(sum(finding.severity == severity for finding in report.findings), severity)
        for severity in SEVERITIES
    ]
    context = report.context
    rows = " and ".join(
        f"{counted(len(dataset), 'row')} of {dataset.source}"
        if context.name(part) == dataset.source
        else f"{counted(len(dataset), f'{part} row')} of {dataset.source}"
        for part, dataset in context.parts.items()
    )
    return f"{', '.join(counts)} in {rows}"


def _on_one_line(text: str) -> str:
    # A text is data: an escape sequence in it must not reach the terminal.
    return "".join(c if c.isprintable() else "·" for c in " ".join(text.split())) or "(empty)"
