from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from sortal.comparison.mistakes import MissedRow, Mistakes
from sortal.comparison.results import Comparison, MethodSummary
from sortal.comparison.tables import (
    cells_table,
    cost_rows,
    cost_table,
    markdown,
    missed_rows,
    missed_table,
    notes,
    pair_rows,
    quality_rows,
    slice_rows,
)
from sortal.comparison.units import clock, count, size
from sortal.evaluation.comparison import PairComparison
from sortal.evaluation.errors import Slice

COST = {
    "train_seconds": 1234.0,
    "texts_per_second": 7.25,
    "seconds_per_text_alone": 0.0123,
    "model_bytes": 9_800_000,
}
HEAD = MethodSummary(
    "head", 3, 0.921, [0.912, 0.931], {"accuracy": 0.921, "f1_micro": 0.921, "f1_macro": 0.92, "ece": 0.01},
    {**COST, "trainable_parameters": 2_442_240, "base_model_bytes": 269_000_000},
)  # fmt: skip
MAJORITY = MethodSummary(
    "majority", 1, 0.01, None, {"accuracy": 0.01, "f1_micro": 0.01, "f1_macro": 0.0, "ece": 0.0}, COST
)
PAIR = PairComparison(
    "majority", "head", "accuracy", 3080, 1, 3, 0.01, 0.921, -0.911, [-0.92, -0.9],
    p=1e-9, p_holm=1e-9, smallest_difference=0.012, power="with 3,080 test rows …", notes=("one training run of majority",),
)  # fmt: skip
CELLS = [
    {"name": "head-0", "method": "head", "seed": 0, "status": "finished", "metrics": {"accuracy": 0.921}, "cost": COST},
    {"name": "tfidf-0", "method": "tfidf", "seed": 0, "status": "failed", "reason": "no | memory"},
]  # fmt: skip
MISSED = MissedRow("row 7", "a | text\nof two lines " + "x" * 200, ["good"], {"head": ["bad"]})
MISTAKES = Mistakes(12, [MISSED], [Slice("over 9 words", 30, {"head": 0.9, "majority": 0.1})])
ADVICE = ["head has the highest accuracy."]
FOUND = Comparison("accuracy", 3080, CELLS, [MAJORITY, HEAD], [PAIR], ADVICE, MISTAKES)


def printed(table, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_quality_stands_best_first_and_micro_f1_is_not_shown_beside_the_same_accuracy():
    header, first, second = quality_rows(FOUND)
    assert header == ["method", "runs", "accuracy", "95 % interval", "F1 macro", "ECE"]
    assert first == ["head", "3", "0.921", "0.912 – 0.931", "0.920", "0.010"]
    assert second[:4] == ["majority", "1", "0.010", ""]


def test_with_several_labels_micro_f1_is_a_figure_of_its_own():
    quality = {"subset_accuracy": 0.4, "f1_micro": 0.6, "f1_macro": 0.5, "ece": 0.01}
    found = Comparison(
        "f1_macro", 50, [], [MethodSummary("head", 1, 0.5, None, quality, COST)], [], [], MISTAKES
    )
    assert quality_rows(found)[0] == [
        "method",
        "runs",
        "f1_macro",
        "95 % interval",
        "all labels right",
        "F1 micro",
        "ECE",
    ]


def test_costs_have_units_and_no_column_is_empty():
    header, head, majority = cost_rows(FOUND)
    assert header == ["method", "trained", "training", "texts/s", "one text", "disk"], (
        "no run had tokens or memory"
    )
    assert head == ["head", "2.4 M", "21 min", "7.2", "12.3 ms", "279 MB"]
    assert majority[1] == ""


def test_a_pair_shows_its_winner():
    assert pair_rows(FOUND)[1] == [
        "majority − head",
        "-91.1 points",
        "-92.0 to -90.0",
        "< 0.001",
        "head is better",
    ]


def test_tables_fit_a_terminal_of_80_columns():
    shown = printed(cost_table(FOUND))
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_live_table_shows_what_runs_and_why_something_failed():
    running = [*CELLS, {"name": "head-1", "method": "head", "seed": 1, "status": "running"}]
    running.append({"name": "head-2", "method": "head", "seed": 2, "status": "running"})
    shown = printed(cells_table(running, "accuracy", {"head-1": "training 3/9", "head-2": "training 1/9"}))
    assert "training 3/9" in shown
    assert "training 1/9" in shown
    assert "no | memory" in shown


def test_slices_and_missed_rows_are_shown_on_one_line_each():
    assert slice_rows(FOUND) == [
        ["kind of rows", "rows", "head", "majority"],
        ["over 9 words", "30", "0.900", "0.100"],
    ]
    header, row = missed_rows(FOUND, 5, 60)
    assert header == ["row", "text", "gold", "head"]
    assert row[1].startswith("a | text of two lines xx")
    assert (len(row[1]), row[2:]) == (60, ["good", "bad"])
    assert "12 rows that every method misses" in printed(missed_table(FOUND, 5))


def test_texts_and_labels_are_words_and_neither_markup_nor_escape_sequences():
    row = MissedRow("[i]7", "[/b] take <b>this</b> [x](y) \x1b[2J", ["[red]"], {"head": ["a\nb"]})
    found = replace(FOUND, mistakes=Mistakes(1, [row], []))
    shown = printed(missed_table(found, 5), width=120)
    for words in ("[i]7", "[/b] take <b>this</b> [x](y) ·[2J", "[red]", "a b"):
        assert words in shown
    assert "\x1b" not in shown
    line = next(line for line in markdown(found, "").splitlines() if "take" in line)
    assert r"\<b\>this\</b\> \[x\](y)" in line
    assert line.endswith(r"| \[red\] | a b |")


def test_the_power_note_is_that_of_the_closest_pair():
    close = replace(PAIR, difference=0.004, power="of the closest pair")
    assert "of the closest pair" in notes(replace(FOUND, pairs=[PAIR, close]))
    assert PAIR.power not in notes(replace(FOUND, pairs=[PAIR, close]))


def test_what_seeds_cannot_tell_is_said_once_for_all_methods():
    noted = replace(PAIR, notes=("two training runs of head say little about seeds: use three or more",))
    twice = [MAJORITY, replace(HEAD, runs=2), replace(HEAD, method="head+tfidf", runs=2)]
    said = notes(replace(FOUND, methods=twice, pairs=[noted, noted]))
    assert said[0] == "two training runs of head and head+tfidf say little about seeds: use three or more"
    assert not any("training run" in note for note in said[1:])
    once = [MAJORITY, replace(HEAD, runs=1), replace(HEAD, method="encoder", runs=3)]
    assert "one training run of head: how much" in notes(replace(FOUND, methods=once, pairs=[noted]))[0]
    assert "one training run of each method" in notes(replace(FOUND, methods=once[:2], pairs=[noted]))[0]


def test_markdown_holds_command_advice_tables_failures_and_notes():
    text = markdown(FOUND, "sortal compare x.csv")
    for words in (
        "`sortal compare x.csv`",
        FOUND.advice[0],
        "| head | 3 | 0.921 |",
        r"tfidf-0: no \| memory",
        *notes(FOUND),
    ):
        assert words in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


@pytest.mark.parametrize(
    ("form", "value", "words"),
    [
        (clock, 0.04, "0.0 s"), (clock, 9.96, "10.0 s"), (clock, 58.4, "58 s"), (clock, 119.9, "120 s"),
        (clock, 121, "2 min"), (clock, 7201, "2.0 h"), (count, 7.25, "7.2"), (count, 950, "950"),
        (count, 8288, "8,288"), (count, 13_715, "13.7 k"), (count, 2_442_240, "2.4 M"), (count, 8e9, "8.0 G"),
        (size, 12, "12 B"), (size, 49_300, "49.3 kB"), (size, 594e6, "594 MB"), (size, 3.21e9, "3.2 GB"),
    ],
)  # fmt: skip
def test_figures_as_people_read_them(form, value, words):
    assert form(value) == words
