from __future__ import annotations

import csv

import pytest

from checked import news, with_noise
from sortal.checks.check import check
from sortal.cli.main import main
from sortal.errors import ConfigError
from tiny_runs import write_csv


def quiet(line):
    del line


def test_every_row_is_ranked_and_the_wrong_ones_come_first(tmp_path, capsys):
    noisy, wrong = with_noise(news(300), 0.1)
    data, out = write_csv(tmp_path / "data.csv", noisy), tmp_path / "ranking.csv"
    assert main(["check", str(data), "--only", "label-noise", "--ranking", str(out)]) == 0
    assert f"every row with its score is in {out}" in capsys.readouterr().err
    with out.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    rows = [int(line["row"]) - 1 for line in lines]
    assert sorted(rows) == list(range(300))
    assert len(set(rows[: len(wrong)]) & wrong) >= 0.9 * len(wrong)
    scores = [float(line["score"]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    for line in lines:
        assert line["label"] == noisy[int(line["row"]) - 1][1]
        assert line["other_label"] != line["label"]
        certain = float(line["other_probability"]) > 4.05 * float(line["probability"])
        assert line["flagged"] == "1" or not certain


def test_where_labels_cannot_be_judged_it_is_said(tmp_path):
    said = []
    data = write_csv(tmp_path / "data.csv", news(20))
    report = check(data, only=["duplicates"], ranking=tmp_path / "r.csv", say=said.append)
    assert report.ranking is None
    assert not (tmp_path / "r.csv").exists()
    assert any("no ranking was written: it needs at least 50 rows" in line for line in said)


@pytest.mark.parametrize("name", ["r.txt", "missing/r.csv", "data.csv", "clean.csv", "clean.log.csv"])
def test_a_place_that_cannot_work_is_refused_before_anything_is_written(tmp_path, name):
    data = write_csv(tmp_path / "data.csv", news(60))
    with pytest.raises(ConfigError, match="--ranking"):
        check(data, ranking=tmp_path / name, fix=tmp_path / "clean.csv", say=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]
