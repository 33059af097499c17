"""B5: test rows that repeat training rows, the pairs, and the figures without them, in every place that shows figures."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.injection import mistyped, retyped

from baseline_runs import baseline
from pages import Page
from sortal.cli.main import main
from sortal.comparison.compare import compare
from sortal.comparison.tables import twins_rows
from sortal.data.duplicates import normalised
from sortal.reporting.report import report
from sortal.run import run
from tiny_runs import write_csv

NEW, LEAKED = 100, 60


def made_up(n, seed):
    """Texts of made-up words with labels drawn at random: nothing can be learned from them but themselves."""
    draw = random.Random(seed)
    words = (["".join(draw.choices("abdefgiklmnoprstuz", k=6)) for _ in range(12)] for _ in range(n))
    return [(" ".join(text), draw.choice(("yes", "no"))) for text in words]


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
    """A run on 300 rows; its test file has 100 rows of its own and 60 of train, half of them with a letter changed."""
    folder, draw = tmp_path_factory.mktemp("twins"), random.Random(2)
    train = made_up(300, 0)
    sources = draw.sample(range(300), LEAKED)
    edits = [retyped if i % 2 else mistyped for i in range(LEAKED)]
    # A letter may be replaced by itself: of these, the text is equal.
    copies = [(edit(train[row][0], draw), train[row][1]) for row, edit in zip(sources, edits, strict=True)]
    files = {
        "train": write_csv(folder / "train.csv", train),
        "dev": write_csv(folder / "dev.csv", made_up(60, 3)),
        "test": write_csv(folder / "test.csv", [*made_up(NEW, 1), *copies]),
    }
    equal = sum(
        normalised(text) == normalised(train[row][0]) for (text, _), row in zip(copies, sources, strict=True)
    )
    out = folder / "run"
    made = baseline(files["train"], out, dev=str(files["dev"]), test=str(files["test"]))
    return SimpleNamespace(files=files, out=out, metrics=made.metrics, sources=sources, equal=equal)


def test_b5_leaks_inflate_the_score_and_the_lower_one_without_them_stands_beside_it(leaking):
    without = leaking.metrics["without_twins"]
    assert {k: without[k] for k in ("rows", "equal", "near", "n")} == {
        "rows": LEAKED, "equal": leaking.equal, "near": LEAKED - leaking.equal, "n": NEW,
    }  # fmt: skip
    figure, span = without["figures"]["accuracy"], without["intervals"]["accuracy"]
    assert leaking.metrics["accuracy"] > figure + 0.1
    assert span[0] <= 0.5 <= span[1]  # what a coin reaches: nothing was learned but the leaks
    added = without["differences"]["accuracy"]
    assert added["value"] == pytest.approx(leaking.metrics["accuracy"] - figure)
    assert added["interval"][0] > 0.05


def test_b5_the_run_folder_names_the_pairs(leaking):
    with (leaking.out / "twins.csv").open(newline="", encoding="utf-8") as file:
        pairs = {int(line["row"]): int(line["seen_row"]) for line in csv.DictReader(file)}
    assert pairs == {NEW + 1 + i: row + 1 for i, row in enumerate(leaking.sources)}


def test_b5_train_shows_both_figures(leaking, tmp_path, capsys):
    files = leaking.files
    command = ["train", str(files["train"]), "--dev", str(files["dev"]), "--test", str(files["test"])]
    assert main([*command, "--method", "tfidf", "--out", str(tmp_path / "run"), "--json"]) == 0
    shown = capsys.readouterr()
    assert "100 rows, without those that have a twin in train or dev" in shown.err
    assert "60 of 160 test rows (37.5%) have a twin" in " ".join(shown.err.split())
    summary = json.loads(shown.out.splitlines()[-1])
    assert summary["without_twins"]["figures"] == leaking.metrics["without_twins"]["figures"]


def test_b5_evaluate_shows_both_figures_and_writes_the_pairs(leaking, tmp_path, capsys):
    command = ["evaluate", str(leaking.out / "model"), str(leaking.files["test"])]
    assert main([*command, "--out", str(tmp_path / "e"), "--json"]) == 0
    shown = capsys.readouterr()
    assert "without those that have a twin in train or dev" in shown.err
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["without_twins"]["figures"] == leaking.metrics["without_twins"]["figures"]
    assert (tmp_path / "e" / "twins.csv").read_text() == (leaking.out / "twins.csv").read_text()


def test_b5_evaluate_on_the_training_rows_themselves_has_nothing_left(leaking, capsys):
    assert main(["evaluate", str(leaking.out / "model"), str(leaking.files["train"]), "--json"]) == 0
    shown = capsys.readouterr()
    assert "no row is left to measure on" in " ".join(shown.err.split())
    assert json.loads(shown.out.splitlines()[-1])["without_twins"]["figures"] == {}


def test_b5_evaluate_says_when_it_cannot_know_the_training_rows(leaking, tmp_path, capsys):
    shutil.copytree(leaking.out / "model", tmp_path / "model")
    assert main(["evaluate", str(tmp_path / "model"), str(leaking.files["test"]), "--json"]) == 0
    shown = capsys.readouterr()
    assert "not compared with the rows that the model was made with" in shown.err
    assert "without_twins" not in json.loads(shown.out.splitlines()[-1])


def test_b5_a_comparison_and_its_page_show_both_figures(leaking, tmp_path, monkeypatch):
    def cell_here(cell, *_):
        run(cell.config, resume=True, say=lambda line: None, quiet=True)
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    monkeypatch.setattr("sortal.comparison.compare.start_cell", cell_here)
    files = {name: str(path) for name, path in leaking.files.items() if name != "train"}
    out = tmp_path / "compared"
    found = compare(
        str(leaking.files["train"]), methods=("majority", "tfidf"), out=out, say=lambda line: None, **files
    )
    clean = found.without_twins
    assert (clean.rows, clean.n) == (LEAKED, NEW)
    assert clean.values["tfidf"] == leaking.metrics["without_twins"]["figures"]["accuracy"]
    assert clean.added["tfidf"] > 0.1
    assert [row[0] for row in twins_rows(found)[1:]] == ["tfidf", "majority"]
    assert (
        "accuracy without test rows that have a twin in train or dev" in (out / "comparison.md").read_text()
    )
    made = report(out)
    page = Page(Path(made.html).read_text(encoding="utf-8")).check()
    assert any("60 of 160 test rows (37.5%) have a twin" in note for note in made.notes)
    assert f"{clean.values['tfidf']:.3f}" in page.text
    assert "The 25 most alike of 60 pairs" in page.text


def test_b5_the_page_of_a_run_shows_both_figures_and_the_pairs_with_their_texts(leaking):
    made = report(leaking.out)
    value = leaking.metrics["without_twins"]["figures"]["accuracy"]
    assert any(f"Without them accuracy is {value:.3f}" in note for note in made.notes)
    content = json.loads(Path(made.json).read_text())
    (section,) = [part for part in content["sections"] if part["id"] == "twins"]
    figures, pairs = (block for block in section["blocks"] if "table" in block)
    assert figures["rows"][0][:3] == ["accuracy", f"{leaking.metrics['accuracy']:.3f}", f"{value:.3f}"]
    assert pairs["rows"][0][2] == "equal"
    for row, seen, _, text, other in pairs["rows"]:
        i = int(row) - NEW - 1
        assert seen == f"train {leaking.sources[i] + 1}"
        assert sum(a != b for a, b in zip(text.casefold(), other.casefold(), strict=True)) <= 1
    (checks,) = [part for part in content["sections"] if part["id"] == "checks"]
    table = checks["blocks"][1]
    assert ["leakage", "error", "test", f"{leaking.equal} rows"] in [row[:4] for row in table["rows"]]


def test_b5_a_run_without_leaks_says_so(tmp_path):
    data = write_csv(tmp_path / "data.csv", made_up(200, 5))
    made = baseline(data, tmp_path / "run", method="majority")
    assert made.metrics["without_twins"]["rows"] == 0
    assert not (tmp_path / "run" / "twins.csv").exists()
    page = Page(Path(report(tmp_path / "run").html).read_text(encoding="utf-8"))
    assert "No test row has a text of train or dev, or nearly." in page.text
