from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from checked import context, found, notes, rows
from sortal.checks.base import NotChecked
from sortal.checks.dates import parse_dates, read_dates
from sortal.errors import DataError


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024-03-31", "2024-03-31"),
        ("2024-03-31T09:00", "2024-03-31T09:00"),
        ("2024-03-31 09:00:05.25", "2024-03-31T09:00:05"),
        ("2024-03-31T09:00:00+02:00", "2024-03-31T07:00"),
        ("2024-03-31T09:00:00Z", "2024-03-31T09:00"),
        ("2024", "2024-01-01"),
        ("2024-03", "2024-03-01"),
        ("2024/3/1", "2024-03-01"),
        ("2024.12.24 18:00", "2024-12-24T18:00"),
        ("20240331", "2024-03-31"),
        ("1711875600", "2024-03-31T09:00"),
        ("1711875600000", "2024-03-31T09:00"),
    ],
)
def test_dates_that_can_only_mean_one_thing_are_read(cell, expected):
    assert parse_dates([cell])[0] == np.datetime64(expected, "s")


@pytest.mark.parametrize("cell", [None, "", "yesterday", "03/04/2024", "2024-13-01", "17", "n/a"])
def test_others_are_not(cell):
    assert np.isnat(parse_dates([cell])[0])


def test_the_column_is_read_as_text_from_any_format(tmp_path):
    path = tmp_path / "a.parquet"
    days = [datetime.date(2024, 1, 2), None]
    pq.write_table(pa.table({"text": ["a", "b"], "when": days}), path)
    assert read_dates(str(path), "when", print) == ["2024-01-02", None]
    (tmp_path / "a.csv").write_text("text,when\na,2024\nb, \n")
    assert read_dates(str(tmp_path / "a.csv"), "when", print) == ["2024", None]
    with pytest.raises(DataError, match="no column 'wehn'; did you mean 'when'"):
        read_dates(str(path), "wehn", print)


def dated(train, test=None):
    rows_ = [(f"text {number}", "a") for number in range(20)]
    more = {} if test is None else {"test": rows_[: len(test)]}
    dates = {"train": train} | ({} if test is None else {"test": test})
    return context(rows_[: len(train)], dates=dates, **more)


def test_rows_of_test_that_are_not_newer_than_training_are_an_error_oldest_first():
    (finding,) = found(
        "time-order", dated(["2024-01-01", "2024-06-01"], ["2024-07-01", "2024-05-01", "2024-03-01"])
    )
    assert (finding.severity, finding.part, rows(finding)) == ("error", "test", [3, 2])
    assert notes(finding) == ["2024-03-01", "2024-05-01"]
    assert "2 rows of 3 with a date are not newer than the newest training row (2024-06-01)" in finding.what
    assert "1 training row is newer than the oldest of them" in finding.what


def test_a_split_by_date_is_fine():
    assert found("time-order", dated(["2024-01-01", "2024-06-01"], ["2024-07-01", "2024-08-01"])) == []


def test_cells_that_are_no_dates_are_listed():
    (finding,) = found("time-order", dated(["2024-01-01", "soon", None], ["2024-07-01"]))
    assert (finding.severity, rows(finding), notes(finding)) == ("warning", [2, 3], ["'soon'", "empty"])


def test_only_dates_that_cannot_be_read_stop_there():
    (finding,) = found("time-order", dated(["x", "y"], ["2024-07-01"]))
    assert finding.part == "train"


def test_one_file_with_dates_asks_for_a_split_by_date():
    (finding,) = found("time-order", dated(["2024-01-01", "2023-05-01"]))
    assert finding.severity == "note"
    assert "from 2023-05-01 to 2024-01-01" in finding.what


def test_labels_that_change_with_time_are_pointed_out():
    rows_ = [(f"t{n}", "old" if n < 100 or n % 2 else "new") for n in range(200)]
    dates = {"train": [f"2024-01-01T00:{n // 60:02}:{n % 60:02}" for n in range(200)]}
    findings = found("time-order", context(rows_, dates=dates))
    assert "50% of the labels move" in findings[-1].what
    assert "'new' 0% → 50%" in findings[-1].what
    steady = [(f"t{n}", "old" if n % 2 else "new") for n in range(200)]
    assert len(found("time-order", context(steady, dates=dates))) == 1


def test_without_a_date_column_it_says_so():
    with pytest.raises(NotChecked, match="--date"):
        found("time-order", context([("a", "x")]))
