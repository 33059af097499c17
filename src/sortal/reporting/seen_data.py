"""What the checks find in the rows of a run, and which of its test rows have a twin, worked out when the page is made."""

from __future__ import annotations

from dataclasses import dataclass

from sortal.checks.base import CheckContext
from sortal.checks.check import CheckReport
from sortal.checks.of_parts import check_parts
from sortal.checks.twins import Twins, context_of, find_twins
from sortal.reporting.rows import TestRows


@dataclass(frozen=True, eq=False)
class SeenData:
    """The rows of a run under the checks.

    found, twins, context: None when the rows cannot be had; ``reason`` then says why.
    with_texts: whether texts of rows may be shown.
    """

    found: CheckReport | None
    twins: Twins | None
    context: CheckContext | None
    reason: str
    with_texts: bool

    @classmethod
    def of(cls, rows: TestRows, with_texts: bool) -> SeenData:
        """Check the rows that `read_rows` found."""
        if rows.parts is None:
            reason = (
                rows.reason.removeprefix("Texts are left out: ") or "The rows have changed since the run."
            )
            return cls(None, None, None, reason[:1].upper() + reason[1:], with_texts)
        context = context_of(rows.parts.train, rows.parts.dev, rows.parts.test)
        return cls(check_parts(context), find_twins(context), context, "", with_texts)
