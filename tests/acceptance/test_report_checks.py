"""What the checks find in a run's data, in its page: severity, count, five examples and what to do; nothing of it is markup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baseline_runs import baseline, topics
from checked import faulty_files
from pages import Page
from sortal.checks import of_parts
from sortal.checks.check import check
from sortal.reporting.report import report
from tiny_runs import write_csv


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The folder of a run on faulty data, with its files beside it."""
    folder = tmp_path_factory.mktemp("checked")
    baseline(faulty_files(folder), folder / "run", method="majority", test=str(folder / "test.csv"))
    return folder


def section(made, name="checks"):
    content = json.loads(Path(made.json).read_text(encoding="utf-8"))
    (found,) = [part for part in content["sections"] if part["id"] == name]
    return found["blocks"]


def test_findings_stand_with_severity_count_and_advice_the_most_severe_first(checked):
    words, table, *rest = section(report(checked / "run"))
    assert table["header"] == ["check", "severity", "part", "count", "what", "what to do"]
    kinds = {row[0] for row in table["rows"]}
    assert {"leakage", "duplicates", "conflicts", "encoding", "text-length", "label-noise"} <= kinds
    order = [["error", "warning", "note"].index(row[1]) for row in table["rows"]]
    assert order == sorted(order)
    assert all(all(row) for row in table["rows"])
    counts = {row[0]: row[3] for row in table["rows"] if row[1] == "error"}
    assert counts == {"leakage": "4 rows"}
    assert words["words"].startswith("1 error, ")
    examples = [block for block in rest if "table" in block]
    assert len(examples) == len(table["rows"])
    assert all(1 <= len(one["rows"]) <= 5 and one["header"] == ["row", "text", "why"] for one in examples)
    assert "time-order: no date column was named" in rest[-1]["words"]


def test_findings_are_those_of_sortal_check_on_the_same_files(checked):
    """What only one part has; dev is split off train here."""
    table = section(report(checked / "run"))[1]
    found = check(checked / "train.csv", test=checked / "test.csv", say=lambda line: None)
    counted = {(one.check, one.part): one.count for one in found.findings if one.part == "test"}
    shown = {(row[0], row[2]): int(row[3].split()[0]) for row in table["rows"] if row[2] == "test"}
    assert shown["leakage", "test"] > 0
    assert set(shown) == set(counted)


def test_nothing_of_the_data_is_markup(checked):
    made = report(checked / "run")
    page = Page(Path(made.html).read_text(encoding="utf-8")).check()
    assert not page.all("b")
    assert not page.all("img")
    assert "<script>alert(" in page.text  # shown as what it is
    words = Path(made.markdown).read_text(encoding="utf-8")
    assert "<script" not in words.replace("\\<script", "")


def test_texts_can_be_kept_out_of_the_examples(checked):
    made = report(checked / "run", texts=False, out=checked / "bare.html")
    for path in (made.html, made.markdown, made.json):
        assert "alert(" not in Path(path).read_text(encoding="utf-8")
    blocks = section(made)
    assert {tuple(block["header"]) for block in blocks[2:] if "table" in block} == {("row",)}


def test_data_that_is_gone_or_changed_is_said_and_not_fatal(tmp_path):
    data = write_csv(tmp_path / "data.csv", [(text, str(i % 2)) for i, (text, _) in enumerate(topics(80))])
    baseline(data, tmp_path / "run", method="majority")
    write_csv(data, [("other " + text, str(i % 2)) for i, (text, _) in enumerate(topics(80))])
    (block,) = section(report(tmp_path / "run"))
    assert block["words"].startswith("The data was not checked. The test rows in ")
    data.unlink()
    (block,) = section(report(tmp_path / "run"))
    assert "data.csv" in block["words"]


def test_of_large_data_the_page_has_the_quick_checks_and_says_so(checked, monkeypatch):
    monkeypatch.setattr(of_parts, "MAX_ROWS", 100)
    blocks = section(report(checked / "run", out=checked / "large.html"))
    assert not {row[0] for row in blocks[1]["rows"]} & of_parts.SLOW
    assert "label-noise: the data is large" in blocks[-1]["words"]


def test_several_labels_per_text(tmp_path):
    data = write_csv(tmp_path / "data.csv", [*topics(100), *topics(100)[:5]])
    baseline(data, tmp_path / "run", method="majority", label_delimiter="|")
    blocks = section(report(tmp_path / "run"))
    assert "duplicates" in {row[0] for row in blocks[1]["rows"]}
    assert (
        "label-noise: wrong labels are looked for only where every row has exactly one" in blocks[-1]["words"]
    )
