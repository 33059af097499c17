from __future__ import annotations

import pytest

from checked import context
from sortal.checks import REGISTRY, of_parts
from sortal.checks.of_parts import SLOW, check_parts

ROWS = [(f"text number {i} of some length", "ab"[i % 2]) for i in range(60)]


def test_every_check_runs_on_small_data():
    report = check_parts(context(ROWS, test=ROWS[:5]))
    assert {finding.check for finding in report.findings} >= {"leakage"}
    assert set(report.seconds) == set(REGISTRY)


@pytest.mark.parametrize("limit", ["MAX_ROWS", "MAX_CHARACTERS"])
def test_what_takes_long_is_left_out_of_large_data_and_said(monkeypatch, limit):
    monkeypatch.setattr(of_parts, limit, 20)
    report = check_parts(context(ROWS, test=ROWS[:5]))
    assert not {finding.check for finding in report.findings} & SLOW
    assert {name for name, why in report.not_checked.items() if "the data is large" in why} == SLOW
