"""``sortal report``: a page about real runs and comparisons, with their texts, and beside everything else in the folder."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from baseline_runs import baseline, topics
from pages import Page
from sortal.cli.main import main
from sortal.comparison.cells import plan
from sortal.comparison.compare import compare
from sortal.config import build_config
from sortal.evaluation.predictions import read_predictions
from sortal.reporting.report import report
from sortal.run import run
from tiny_runs import fit, rows, write_csv

LABELS = ("good", "bad", "odd")


def noisy(n=300):
    """Separable rows, one in five with a random label; every text tries to be markup."""
    rng = random.Random(0)
    return [
        (f"{text} <script>alert({i})</script>", rng.choice(LABELS) if rng.random() < 0.2 else label)
        for i, (text, label) in enumerate(rows(n, LABELS))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def data(folder):
    return write_csv(folder / "data.csv", noisy())


@pytest.fixture(scope="module")
def compared(data, folder):
    """Two methods, which seeds do not change."""
    return compared_in(folder / "compared", data)


def compared_in(out, data, methods=("majority", "tfidf"), seeds=2):
    """A comparison whose cells run in this process, which spares them the time to start."""

    def cell_here(cell, *_):
        run(cell.config, resume=True, say=lambda line: None, quiet=True)
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sortal.comparison.compare.start_cell", cell_here)
        settings: dict = {"n_resamples": 100, "threads": 1}
        if "tfidf" in methods:
            settings["tfidf.temperature_scaling"] = False
        found = compare(str(data), methods=methods, seeds=seeds, out=out, say=lambda line: None, **settings)
    return out, found


def page_of(made):
    return Page(Path(made.html).read_text(encoding="utf-8")).check()


def test_a_comparison_becomes_a_page_with_its_verdict_its_runs_and_its_texts(compared):
    out, found = compared
    made = report(out)
    page = page_of(made)
    assert page.sections == [
        "verdict", "comparison", "twins", "kinds", "missed", "details", "figures", "confusion", "labels", "calibration", "thresholds",
        "ranking", "mistakes", "checks", "provenance", "reproduce",
    ]  # fmt: skip
    best = max(found.methods, key=lambda m: m.value)
    assert made.verdict[0].startswith(found.advice[0])
    assert (
        f"{best.value:.3f}, 95 % interval {best.interval[0]:.3f} to {best.interval[1]:.3f}" in made.verdict[0]
    )
    assert any(found.pairs[0].verdict in line for line in made.verdict)
    assert any(found.pairs[0].power in note[:1].lower() + note[1:] for note in made.notes)
    assert all(cell["name"] in page.text for cell in found.cells)
    assert "tfidf" in [e[2] for e in page.all("text")]  # named in the plot of cost
    assert "majority reaches" in page.all("title", id="cost-plot-title")[0][2]
    for row in found.mistakes.rows[:5]:
        assert " ".join(row.text.split()) in page.text
    assert "alert(" in page.text


def test_the_surest_mistakes_are_shown_with_the_texts_of_their_rows(compared, data):
    out, _ = compared
    predictions = read_predictions(out / "runs" / "tfidf-0" / "predictions.parquet")
    texts = dict(enumerate((line.rsplit(",", 1)[0] for line in data.read_text().splitlines()[1:]), start=1))
    content = json.loads(Path(report(out).json).read_text())
    (table,) = [b for s in content["sections"] if s["id"] == "mistakes" for b in s["blocks"] if "table" in b]
    assert table["header"] == ["row", "text", "gold", "answer", "probability"]
    wrong = set(np.flatnonzero(predictions.predicted != predictions.gold).tolist())
    ids = {predictions.ids[i]: i for i in wrong}
    stated = []
    for line in table["rows"]:
        row = ids[line[0]]
        assert line[1] == texts[int(line[0])].strip('"')
        assert line[2] == predictions.names[predictions.gold[row]]
        assert line[3] == predictions.names[predictions.predicted[row]]
        assert line[4] == f"{predictions.probabilities[row].max():.3f}"
        lead = predictions.probabilities[row].max() - predictions.probabilities[row, predictions.gold[row]]
        stated.append(lead)
    assert stated == sorted(stated, reverse=True)
    assert len(table["rows"]) == min(25, len(wrong))


def test_the_page_says_how_to_make_the_same_runs_again(compared, tmp_path):
    out, _ = compared
    code = [e[2] for e in page_of(report(out)).all("pre")]
    settings = yaml.safe_load(code[0])
    assert (
        code[1]
        == "sortal compare --config settings.yaml --methods majority,tfidf --seeds 1 --metric accuracy --out NEW_FOLDER"
    )
    again = {cell.name: cell.config for cell in plan(settings, ["majority", "tfidf"], 1, tmp_path)}
    for name, config in again.items():
        recorded = json.loads((out / "runs" / name / "run.json").read_text())["config"]
        assert {**config.model_dump(mode="json"), "out": None} == {**recorded, "out": None}


def test_the_settings_of_one_run_make_the_same_run(compared, tmp_path):
    out, _ = compared
    code = [e[2] for e in page_of(report(out / "runs" / "tfidf-0")).all("pre")]
    made = run(
        build_config({**yaml.safe_load(code[0]), "out": str(tmp_path / "new")}),
        say=lambda line: None,
        quiet=True,
    )
    first = json.loads((out / "runs" / "tfidf-0" / "metrics.json").read_text())
    assert made.metrics["accuracy"] == first["accuracy"]
    assert made.metrics["ece"] == first["ece"]


def test_a_reported_comparison_and_run_still_go_on(compared, data):
    out, found = compared
    report(out)
    report(out / "runs" / "tfidf-0")
    _, again = compared_in(out, data)
    assert [m.value for m in again.methods] == [m.value for m in found.methods]
    assert (out / "report.html").exists()
    one = run(
        build_config({"data": str(data), "method": "tfidf", "out": str(out / "runs" / "tfidf-0")}),
        resume=True, say=lambda line: None, quiet=True,
    )  # fmt: skip
    assert one.record["status"] == "finished"


def test_changed_or_moved_data_costs_the_texts_and_is_said(tmp_path):
    data = write_csv(tmp_path / "data.csv", noisy(120))
    baseline(data, tmp_path / "run")
    assert "<script>" in page_of(report(tmp_path / "run")).text
    assert "kinds" in page_of(report(tmp_path / "run")).sections
    write_csv(data, [(f"replaced {text}", label) for text, label in noisy(120)])
    made = report(tmp_path / "run")
    assert "are not those of the run any more" in made.notes[-1]
    page = page_of(made)
    assert "replaced" not in page.text
    assert "kinds" not in page.sections
    assert "mistakes" in page.sections  # rows, labels and probabilities are still there
    data.unlink()
    assert "data.csv" in report(tmp_path / "run").notes[-1]


def test_texts_can_be_kept_out(compared):
    out, _ = compared
    page = page_of(report(out, texts=False))
    assert "alert(" not in page.text
    assert "alert(" not in (out / "report.md").read_text()
    assert "alert(" not in (out / "report.json").read_text()
    assert "as was asked for" in page.text


def test_changed_training_rows_keep_the_texts_but_not_the_kinds_of_rows(tmp_path):
    train, test = (
        write_csv(tmp_path / "train.csv", noisy(120)),
        write_csv(tmp_path / "test.csv", noisy(300)[200:]),
    )
    baseline(train, tmp_path / "run", test=str(test))
    write_csv(train, noisy(150))
    made = report(tmp_path / "run")
    assert made.notes[-1] == "The training rows have changed since the run."
    page = page_of(made)
    assert "alert(" in page.text
    assert "kinds" not in page.sections


def test_several_labels_per_text(tmp_path):
    lines = [(text, "m" if i % 9 == 0 else labels) for i, (text, labels) in enumerate(topics(200))]
    data = write_csv(tmp_path / "data.csv", lines)
    baseline(data, tmp_path / "run", label_delimiter="|")
    made = report(tmp_path / "run")
    page = page_of(made)
    assert made.verdict[0].startswith("tfidf reaches f1_micro ")
    assert {"kinds", "thresholds", "ranking", "confusion"} <= set(page.sections)
    assert "threshold-plot" in [e[1].get("id") for e in page.all("svg")]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    data = json.loads((tmp_path / "run" / "report.json").read_text())
    (gallery,) = [
        b["gallery"] for s in data["sections"] if s["id"] == "ranking" for b in s["blocks"] if "gallery" in b
    ]
    shown = {one["figure"].split(":")[0]: one["data"]["average_precision"] for one in gallery}
    for entry in metrics["per_label"]:
        assert shown[entry["label"]] == pytest.approx(entry["average_precision"])


def test_the_layers_of_a_probe_are_those_it_tried(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    data = write_csv(tmp_path / "data.csv", noisy(120))
    free = {"epochs": None, "batch_size": None, "learning_rate": 2e-3, "head_learning_rate": 2e-3}
    made = fit(data, tiny, tmp_path / "run", method="probe", **free)
    page = page_of(report(tmp_path / "run"))
    training = made.record["training"]
    content = json.loads((tmp_path / "run" / "report.json").read_text())
    (plot,) = [
        b["data"] for s in content["sections"] if s["id"] == "layers" for b in s["blocks"] if "data" in b
    ]
    assert plot["chosen"] == {key: training[key] for key in ("layer", "template", "pooling")}
    best = max(one["metric"] for one in training["layers"])
    assert max(value for curve in plot["curves"].values() for value in curve.values()) == best
    assert sum(map(len, plot["curves"].values())) == len(
        {(t["template"], t["pooling"], t["layer"]) for t in training["layers"]}
    )
    assert f"the ring is the choice: layer {training['layer']}, " in page.text
    assert "alert(" in page.text
    again = build_config(yaml.safe_load(page.all("pre")[0][2]))
    assert {**again.model_dump(mode="json"), "out": None} == {**made.record["config"], "out": None}


def test_a_moved_comparison_and_one_method_alone(compared, data, tmp_path):
    out, _ = compared
    moved = shutil.copytree(out, tmp_path / "moved")
    for stale in moved.glob("report.*"):
        stale.unlink()
    assert report(moved).verdict == report(out).verdict
    alone, found = compared_in(tmp_path / "alone", data, methods=("tfidf",), seeds=1)
    made = report(alone)
    page_of(made)
    assert made.verdict[0].startswith(found.advice[0])
    assert "nothing to compare it with" in made.verdict[0]


def test_few_test_rows_have_figures_and_no_verdict(tmp_path):
    out, found = compared_in(tmp_path / "few", write_csv(tmp_path / "data.csv", noisy(90)), seeds=1)
    assert found.n < 30
    made = report(out)
    page_of(made)
    assert made.verdict[0].startswith(f"{found.n} test rows are too few to recommend anything")
    assert not any("is better than" in line for line in made.verdict)
    assert "too few to say much" in report(out / "runs" / "tfidf-0").notes[1]


def test_the_command_writes_three_files_and_a_summary(compared, tmp_path, capsys):
    out, found = compared
    target = tmp_path / "page.html"
    assert main(["report", str(out), "--out", str(target), "--json"]) == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out.splitlines()[-1])
    assert summary["kind"] == "comparison"
    assert summary["html"] == str(target)
    assert summary["html_bytes"] == target.stat().st_size
    assert summary["figures"]["methods"]["tfidf"]["runs"] == 1
    assert found.advice[0] in shown.err
    assert f"written to {target}" in shown.err
    assert "alert(" in target.read_text(encoding="utf-8")
    assert main(["report", "--no-texts", str(out), "--out", str(target)]) == 0
    assert "alert(" not in target.read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 2
    assert "has neither a run.json nor a comparison.json" in capsys.readouterr().err
