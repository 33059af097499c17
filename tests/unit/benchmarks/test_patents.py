"""Patents by level and frequency, and that what is shown is what was measured."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks import ingredients, patents_tables, sections
from benchmarks.patents_levels import band_f1, level_f1
from benchmarks.patents_methods import METHODS, SAMPLE, settings_of

from sortal.config import build_config
from sortal.evaluation.predictions import Predictions

NAMES = ("A01B", "A01C", "A61K", "B60R")


def several():
    gold = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]], np.uint8)
    said = np.array([[0, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]], np.uint8)
    return Predictions(NAMES, "multi", list("xyz"), gold, said, said.astype(float))


def test_an_answer_in_the_right_branch_is_right_above():
    found = level_f1(several(), "subclasses")
    # Sections: A, A+B and A, all right. Classes: the third is A61 and not A01. Subclasses: two of four.
    assert {level: value for level, (value, _) in found.items()} == {
        "section": 1.0,
        "class": pytest.approx(3 / 4),
        "subclass": pytest.approx(2 / 4),
    }
    assert all(low <= value <= high for value, (low, high) in found.values())


def test_with_one_label_per_row_a_level_is_its_accuracy_and_none_lies_below_the_labels():
    gold, said = np.array([0, 1, 2, 1]), np.array([0, 2, 2, -1])  # the last one abstained
    one = Predictions(("A01", "A61", "B60"), "single", list("wxyz"), gold, said, np.eye(3)[[0, 2, 2, 0]])
    assert {level: value for level, (value, _) in level_f1(one, "classes").items()} == {
        "section": pytest.approx(2 * 2 / 7),  # three answers to four rows
        "class": pytest.approx(2 * 2 / 7),
    }


def test_bands_are_the_macro_f1_of_their_labels():
    found = band_f1(several(), [3, 5, 6, 101])
    assert {band: (labels, value) for band, (labels, value, _) in found.items()} == {
        "1–5": (2, pytest.approx((0 + 2 / 3) / 2)),
        "6–20": (1, 0.0),
        "> 100": (1, 1.0),
    }


@pytest.mark.parametrize("level", ["sections", "classes", "subclasses"])
def test_every_method_of_a_level_reads_the_same_rows_and_its_settings_are_valid(data_root, tmp_path, level):
    configs = [build_config(settings_of(level, method, data_root, tmp_path)) for method in METHODS]
    assert len({(config.data, config.dev, config.test, config.seed, config.task) for config in configs}) == 1
    asked = configs[list(METHODS).index("instruct")]
    assert (asked.shortlist is None) == (level == "sections")
    if level == "subclasses":
        text = Path(asked.verbalizer).read_text(encoding="utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        wordings = [row["wording"] for row in rows]
        assert len(set(wordings)) == len(wordings) > 200
        assert all(row["wording"].startswith(row["label"]) for row in rows)


def test_titles_and_abstracts_are_the_columns_of_the_same_rows(data_root, tmp_path):
    files = sections.column_files(data_root, tmp_path)
    for part, path in files.items():
        joined, columns = (
            [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
            for name in (Path(path).with_name(f"{part}.jsonl"), path)
        )
        assert [f"{row['title']}\n{row['abstract']}" for row in columns] == [row["text"] for row in joined]
        assert all(row["title"] and row["abstract"] for row in columns)


def test_the_tables_are_those_of_the_results():
    kept = patents_tables.read()
    assert patents_tables.markdown(kept) == (patents_tables.RESULTS / "patents.md").read_text(
        encoding="utf-8"
    )
    found = json.loads((sections.RESULTS / "sections.json").read_text(encoding="utf-8"))
    assert sections.markdown(found) == (sections.RESULTS / "sections.md").read_text(encoding="utf-8")


def test_the_page_on_patents_has_the_table_of_the_results():
    page = ingredients.PAGE.read_text(encoding="utf-8")
    assert ingredients.written(page) == page


def test_what_the_page_says_in_words_is_measured_too():
    page, kept = ingredients.PAGE.read_text(encoding="utf-8"), patents_tables.read()
    assert f"{SAMPLE.train} to train on and the first {SAMPLE.words} words of each text" in page
    for task, (metric, *_) in patents_tables.METRICS.items():
        cells = [
            "{:.3f} [{:.3f}, {:.3f}]".format(row[metric][0], *row[metric][1]) for row in kept[task]["results"]
        ]
        assert f"| {' | '.join(cells)} |" in page
