"""The tables that show all sets of the study side by side."""

from __future__ import annotations

from benchmarks.paper.summary import summary


def study(values, winners):
    """A set's figures, and who wins of each pair (None: nobody)."""
    return {
        "methods": [{"method": name, "value": value, "runs": 3} for name, value in values.items()],
        "pairs": [{"a": a, "b": b, "winner": winner} for (a, b), winner in winners.items()],
    }


FIRST = study(
    {"tfidf": 0.7, "encoder": 0.81, "head": 0.8},
    {("tfidf", "encoder"): "encoder", ("tfidf", "head"): "head", ("encoder", "head"): None},
)
SECOND = study(
    {"tfidf": 0.6, "encoder": 0.5, "head": 0.9},
    {("tfidf", "encoder"): None, ("tfidf", "head"): "head", ("encoder", "head"): "head"},
)


def test_bold_is_what_is_not_told_apart_from_the_best():
    lines = summary({"one": FIRST, "two": SECOND})
    assert "| method | one | two |" in lines
    assert "| head | **0.800** | **0.900** |" in lines
    assert "| encoder | **0.810** | 0.500 |" in lines
    assert "| tfidf | 0.700 | 0.600 |" in lines
    # The highest mean comes first.
    order = [line.split(" | ")[0].removeprefix("| ") for line in lines if "0.7" in line or "0.8" in line]
    assert order == ["head", "encoder", "tfidf"]


def test_tests_are_counted_from_each_methods_side():
    lines = summary({"one": FIRST, "two": SECOND})
    assert "| head | 2 / 0 / 0 | 1 / 1 / 0 |" in lines
    assert "| encoder | 1 / 1 / 0 | – |" in lines
    assert "| tfidf | – | 0 / 1 / 1 |" in lines


def test_all_rows_and_samples_stand_apart_and_one_set_alone_has_no_table():
    assert summary({"one": FIRST, "one, all rows": SECOND}) == []
    titles = [line for line in summary({"one": FIRST, "two": SECOND, "one, all rows": FIRST, "two, all rows": SECOND}) if line.startswith("## ")]  # fmt: skip
    assert titles == ["## Samples, side by side", "## All rows, side by side"]


def test_a_method_that_a_set_lacks_has_no_figure_there():
    more = study({"tfidf": 0.5, "head+tfidf": 0.6}, {("tfidf", "head+tfidf"): "head+tfidf"})
    lines = summary({"one": FIRST, "two": more})
    assert "| head+tfidf | – | **0.600** |" in lines
    assert "| head+tfidf | 1 / 0 / 0 | – |" in lines
