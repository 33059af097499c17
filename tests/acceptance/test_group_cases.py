"""Several rows of one author: intervals and tests draw authors, in every place that shows figures."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from baseline_runs import baseline
from pages import Page
from sortal import load
from sortal.cli.main import main
from sortal.comparison.compare import compare
from sortal.evaluation.predictions import read_predictions
from sortal.reporting.report import report
from sortal.run import run
from tiny_runs import write_csv

AUTHORS, EACH = 160, 6
HEADER = ("text", "label", "author")


def written_by(authors, seed):
    """Texts that authors repeat with small changes: some are easy for every row of theirs, some for none."""
    draw = random.Random(seed)
    for author in authors:
        label = draw.choice(("yes", "no"))
        clear = draw.random() < 0.6
        words = [
            f"{label if clear else 'maybe'}{draw.randrange(3)}",
            *draw.choices(("and", "then", "so"), k=3),
        ]
        for row in range(EACH):
            yield f"{' '.join(words)} {author}{row}", label, author


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    data = write_csv(folder / "all.csv", list(written_by([f"w{n}" for n in range(AUTHORS)], 0)), HEADER)
    said: list[str] = []
    made = baseline(data, folder / "run", group="author", test_size=0.4, n_resamples=1000, said=said)
    return SimpleNamespace(data=data, out=folder / "run", metrics=made.metrics, said=said)


def test_a_run_draws_authors_and_keeps_who_wrote_what(grouped):
    predictions = read_predictions(grouped.out / "predictions.parquet")
    authors = set(predictions.groups)
    assert grouped.metrics["groups"] == len(authors) == grouped.metrics["n"] / EACH
    assert f"over the {len(authors)} groups of rows" in grouped.metrics["interval_method"]
    assert any("intervals and tests draw groups, not rows" in line for line in grouped.said)
    width = np.ptp(grouped.metrics["intervals"]["accuracy"])
    share = grouped.metrics["accuracy"]
    assert width > 1.5 * 2 * 1.96 * (share * (1 - share) / grouped.metrics["n"]) ** 0.5
    card = (grouped.out / "model" / "README.md").read_text(encoding="utf-8")
    assert f"{grouped.metrics['n']:,} test rows of {len(authors)} groups" in card


def test_evaluate_takes_the_column_that_training_named_or_the_one_it_is_told(grouped, tmp_path, capsys):
    def evaluated(path, *more):
        assert main(["evaluate", str(grouped.out / "model"), str(path), "--json", *more]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    lines = list(written_by([f"new{n}" for n in range(40)], 1))
    known = evaluated(write_csv(tmp_path / "known.csv", lines, HEADER), "--out", str(tmp_path / "e"))
    assert (known["n"], known["groups"]) == (40 * EACH, 40)
    assert len(set(read_predictions(tmp_path / "e" / "predictions.parquet").groups)) == 40
    assert (
        load(grouped.out / "model").evaluate(tmp_path / "known.csv")["intervals"]["accuracy"]
        == known["intervals"]["accuracy"]
    )
    other = write_csv(tmp_path / "other.csv", lines, ("text", "label", "writer"))
    assert "groups" not in evaluated(other)
    named = evaluated(other, "--group", "writer")
    assert named["groups"] == 40
    assert named["intervals"]["accuracy"] == known["intervals"]["accuracy"]
    assert main(["evaluate", str(grouped.out / "model"), str(other), "--group", "autor"]) == 2
    assert "autor" in capsys.readouterr().err


def test_a_comparison_and_its_page_say_how_many_authors_there_are(grouped, tmp_path, monkeypatch):
    def cell_here(cell, *_):
        run(cell.config, resume=True, say=lambda line: None, quiet=True)
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    monkeypatch.setattr("sortal.comparison.compare.start_cell", cell_here)
    asked = {"methods": ("majority", "tfidf"), "group": "author", "say": lambda line: None}
    found = compare(str(grouped.data), out=tmp_path / "all", test_size=0.4, **asked)
    (pair,) = found.pairs
    assert pair.groups == found.groups == found.n / EACH
    assert "over groups" in pair.test
    assert f"{found.n:,} rows of {found.groups} groups" in pair.verdict
    assert pair.winner == "tfidf"
    page = Page(Path(report(tmp_path / "all").html).read_text(encoding="utf-8")).check()
    assert f"accuracy on {found.n:,} test rows of {found.groups} groups" in page.text

    warned: list[str] = []
    few = compare(str(grouped.data), out=tmp_path / "few", test_size=0.1, **asked | {"say": warned.append})
    assert few.n >= 30 > few.pairs[0].groups
    assert (few.pairs[0].p, few.methods[0].interval) == (None, None)
    assert any("groups of test rows are too few for intervals and tests" in line for line in warned)
