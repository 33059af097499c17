"""Tables of results in Markdown, and that committed pages show the committed figures."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from benchmarks.tables import p_value, points, span, table

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
PAGES = {
    "check": "check_tables",
    "hierarchy": "hierarchy",
    "many_labels": "many_labels",
    "rare_labels": "rare_labels",
    "small_thresholds": "small_thresholds",
    "trunk": "trunk",
}


def test_a_table_has_a_rule_as_wide_as_its_head():
    rows = ([name, "1"] for name in "ab")
    assert table(("", "n"), rows) == ["|  | n |", "|---|---|", "| a | 1 |", "| b | 1 |"]
    assert table(["n"], []) == ["| n |", "|---|"]


def test_figures_come_with_what_is_known_of_their_chance():
    assert span(0.5, [0.4114, 0.6]) == "0.500 [0.411, 0.600]"
    assert points(-0.0123) == "-1.2"
    assert points(0.02, (-0.001, 0.041)) == "+2.0 [-0.1, +4.1]"
    assert [p_value(p) for p in (0.0, 0.00099, 0.001, 0.25)] == ["p < 0.001"] * 2 + ["p = 0.001", "p = 0.250"]


@pytest.mark.parametrize(("name", "module"), PAGES.items())
def test_a_page_of_results_shows_the_figures_beside_it(name, module):
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    page = importlib.import_module(f"benchmarks.{module}").markdown(found)
    assert page == (RESULTS / f"{name}.md").read_text(encoding="utf-8")
