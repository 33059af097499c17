"""``test_size`` 0: every row but dev is trained on, nothing is measured, and every command says so."""

from __future__ import annotations

import json

import pytest

import sortal
from baseline_runs import baseline
from sortal.cli.main import main
from sortal.data.dataset import Dataset
from sortal.errors import DataError, RunFolderError
from tiny_runs import rows, write_csv


@pytest.fixture
def data(tmp_path):
    return write_csv(tmp_path / "d.csv", rows(60))


def test_all_rows_are_trained_on_or_dev_and_no_figures_are_made_up(data, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", str(data), "--method", "tfidf", "--set", "test_size=0", "--out", str(out), "--json"]
    assert main(words) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert "no test rows: nothing was measured" in printed.err
    assert "accuracy" not in summary
    record = json.loads((out / "run.json").read_text())
    assert {part: found["rows"] for part, found in record["data"].items()} == {
        "train": 54,
        "dev": 6,
        "test": 0,
    }
    assert record["inference"]["seconds_per_text_alone"] is None
    assert not (out / "metrics.json").exists()
    assert not (out / "predictions.parquet").exists()
    card = (out / "model" / "README.md").read_text()
    assert "Not measured: no rows were kept for a test." in card
    assert "tested on" not in card
    assert sortal.load(out / "model").predict(["fine lovely"]) == ["good"]
    assert main([*words, "--resume"]) == 0  # finished: loaded, and still without figures


def test_given_dev_rows_leave_nothing_to_split(data, tmp_path):
    dev = write_csv(tmp_path / "dev.csv", rows(20)[10:])
    result = baseline(data, tmp_path / "run", "majority", dev=str(dev), test_size=0)
    assert [result.record["data"][part]["rows"] for part in ("train", "dev", "test")] == [60, 10, 0]
    assert not (tmp_path / "run" / "split.parquet").exists()


def test_what_needs_test_rows_says_so(data, tmp_path):
    baseline(data, tmp_path / "run", "majority", test_size=0)
    with pytest.raises(
        RunFolderError, match=r"had no test rows, and a report needs some\n→ train with --test FILE"
    ):
        sortal.report(tmp_path / "run")
    with pytest.raises(DataError, match="no test rows to compare on"):
        sortal.compare(str(data), methods=["majority", "tfidf"], out=tmp_path / "compare", test_size=0)


def test_rows_in_memory_train_the_model_of_the_same_rows_in_a_file(data, tmp_path):
    from sortal.config import build_config
    from sortal.run import run

    made = rows(60)
    given = {
        "train": Dataset.from_lists(
            [text for text, _ in made], [(label,) for _, label in made], task="single"
        )
    }
    config = {"method": "tfidf", "n_resamples": 100}
    memory = run(
        build_config({**config, "out": str(tmp_path / "m")}), data=given, say=lambda line: None, quiet=True
    )
    file = baseline(data, tmp_path / "f")
    assert memory.record["data"]["test"]["fingerprint"] == file.record["data"]["test"]["fingerprint"]
    assert memory.metrics == file.metrics


def test_an_unknown_label_in_dev_rows_in_memory_is_named(tmp_path):
    from sortal.config import build_config
    from sortal.run import run

    texts = [text for text, _ in rows(20)]
    train = Dataset.from_lists(texts, [(label,) for _, label in rows(20)], task="single")
    dev = Dataset.from_lists(["fine"], [("god",)], task="single", source="dev rows")
    config = build_config({"method": "majority", "out": str(tmp_path / "m")})
    with pytest.raises(DataError, match=r"dev rows: row 1: label 'god' .*did you mean 'good'"):
        run(config, data={"train": train, "dev": dev}, say=lambda line: None, quiet=True)
