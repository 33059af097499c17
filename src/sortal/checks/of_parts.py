"""The checks on the rows of a run, in bounded time."""

from __future__ import annotations

from sortal.checks import REGISTRY
from sortal.checks.base import CheckContext
from sortal.checks.check import CheckReport, run_checks
from sortal.checks.twins import is_small

# Those that compare texts with each other or learn from them.
SLOW = frozenset({"leakage", "near-duplicates", "label-noise"})
MAX_ROWS, MAX_CHARACTERS = 100_000, 50_000_000
_LARGE = "the data is large, and this takes longer than a report should; sortal check does it"


def check_parts(context: CheckContext) -> CheckReport:
    """Every check; those of `SLOW` only up to `MAX_ROWS` rows and `MAX_CHARACTERS`, about a minute."""
    small = is_small(context.parts, MAX_ROWS, MAX_CHARACTERS)
    names = [name for name in REGISTRY if small or name not in SLOW]
    report = run_checks(context, names)
    if not small:
        report.not_checked.update({name: _LARGE for name in REGISTRY if name in SLOW})
    return report
