"""What a run on a tree of labels leaves: predictions, a served model, exports and a report; a changed folder is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import sortal
from sortal.bulk.formats import Format
from sortal.errors import ModelError
from sortal.evaluation.tables import levels_table
from sortal.exporting.export import export
from sortal.exporting.formats import get_format
from sortal.exporting.subject import read_subject
from sortal.reporting.report import report
from sortal.serving.models import ServedModel, describe
from tiny_runs import edit_json
from tree_runs import PATHS, TEXTS


def test_predictions_hold_every_node(tree_runs, tmp_path):
    run = tree_runs("tfidf", "single", "conditional")
    space, tree = run.classifier.label_space, run.classifier.label_space.tree
    p = run.classifier.predict_proba(TEXTS)
    nodes = run.classifier.predict_node_proba(TEXTS)
    decided = run.classifier.decision.decide(p)
    ids = [str(i) for i in range(len(TEXTS))]
    lines = [
        json.loads(line) for line in Format("jsonl", space).encode(ids, p, decided).decode().splitlines()
    ]
    for line, row in zip(lines, nodes, strict=True):
        assert line["path"] == list(tree.path(line["label"]))
        assert line["ancestors"] == {
            name: round(float(row[tree.index[name]]), 6) for name in line["ancestors"]
        }
        assert set(line["ancestors"]) == {"D", "B"}
        assert sum(line["ancestors"].values()) == pytest.approx(1, abs=1e-5)
    form = Format("csv", space)
    with (tmp_path / "rows.csv").open("w+b") as file:
        form.join([form.encode(ids, p, decided)], file)
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["p:D"]) for row in rows] == pytest.approx(nodes[:, tree.index["D"]], abs=1e-5)
    table = pq.read_table(run.folder / "predictions.parquet")
    inner = np.array(table["p:D"]) + np.array(table["p:B"])
    np.testing.assert_allclose(inner, 1)
    np.testing.assert_allclose(
        np.array(table["p:D"]),
        sum(np.array(table[f"p:{label}"]) for label in space.names if label.startswith("D")),
    )


def test_serving_gives_the_same_and_describes_the_tree(tree_runs):
    for task in ("single", "multi"):
        run = tree_runs("tfidf", task, "conditional")
        served = ServedModel.load("m", run.folder / "model")
        answers = served.answer(TEXTS)
        np.testing.assert_allclose(
            np.stack([answer.probabilities for answer in answers]),
            run.classifier.predict_proba(TEXTS),
            atol=1e-12,
        )
        tree = describe("m", run.folder / "model")["tree"]
        assert tree["levels"] == ["1", "2", "3"]
        assert (tree["parents"]["D/D06/D06Q"], tree["parents"]["D"]) == ("D/D06", None)


@pytest.mark.parametrize(
    ("task", "mode", "said"),
    [("single", "levels", "hierarchy 'levels'"), ("multi", "flat", "at most as probable")],
)
def test_an_export_that_cannot_keep_the_tree_is_refused(tree_runs, task, mode, said, tmp_path):
    for to in ("hf", "onnx", "adapter"):
        with pytest.raises(ModelError, match=said):
            export(tree_runs("head", task, mode).folder / "model", to=to, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_one_label_learned_flat_can_be_exported(tree_runs):
    subject = read_subject(
        tree_runs("head", "single", "flat").folder / "model", "hf", None, int8=False, without_blend=False
    )
    assert get_format("hf").check(subject) is None
    assert set(subject.space.names) == set(PATHS.values())


def test_the_report_and_the_terminal_show_the_levels(tree_runs, tmp_path):
    run = tree_runs("tfidf", "single", "levels")
    page = report(run.folder, out=tmp_path / "r.html")
    words = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "By level" in words
    assert "hierarchical F1" in words
    assert page.kind == "run"
    assert "By level" in (tmp_path / "r.md").read_text(encoding="utf-8")
    console = Console(width=80, file=io.StringIO())
    console.print(levels_table(run.result.metrics))
    shown = console.file.getvalue()
    assert "…" not in shown
    for level in run.result.metrics["levels"]:
        assert f"{level['accuracy']:.3f}" in shown


def test_an_edited_tree_is_refused(tree_runs, tmp_path):
    folder = shutil.copytree(tree_runs("tfidf", "single", "flat").folder / "model", tmp_path / "model")
    meta = json.loads((folder / "sortal.json").read_text())
    names = meta["tree"]["nodes"]
    parents = [*meta["tree"]["parents"]]
    parents[names.index("D/D07")] = names.index("B")
    edit_json(folder / "sortal.json", tree={**meta["tree"], "parents": parents})
    with pytest.raises(ModelError, match="tree of labels was edited"):
        sortal.load(folder)
    edit_json(folder / "sortal.json", tree=meta["tree"], labels=["X/Y", *meta["labels"][1:]])
    with pytest.raises(ModelError, match="'X/Y' is not in the tree"):
        sortal.load(folder)


@pytest.mark.parametrize("mode", ["levels", "conditional"])
def test_config_json_names_the_choices_and_another_tree_does_not_fit(tree_runs, mode, tmp_path):
    folder = shutil.copytree(tree_runs("head", "single", mode).folder / "model", tmp_path / "model")
    edit_json(folder / "sortal.json", hierarchy="flat")
    with pytest.raises(ModelError, match="disagree about the labels"):
        sortal.load(folder)
