"""Labels that form a tree, end to end: how it is said, what is trained, what comes out."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import sortal
from baseline_runs import baseline
from instruct_runs import instruct
from sortal.bulk.formats import Format
from sortal.comparison.cells import check, plan
from sortal.config import build_config
from sortal.errors import CheckpointError, ConfigError, DataError, InputError, ModelError, RunFolderError
from sortal.evaluation.tables import levels_table
from sortal.exporting.export import export
from sortal.exporting.formats import get_format
from sortal.exporting.subject import read_subject
from sortal.parts import read_parts
from sortal.reporting.report import report
from sortal.run import run as run_of
from sortal.serving.models import ServedModel, describe
from sortal.training.loop import Loop
from tiny_runs import edit_json, fit, write_csv
from tree_runs import (
    LEVELS,
    PATHS,
    as_columns,
    as_names,
    as_paths,
    assert_consistent,
    parent_map,
    several,
    texts_with_labels,
)

TEXTS = ["dye stain", "rope and cable", "", "layer of cloth", "iron", "nothing of the kind"]
MODES = ("flat", "levels", "conditional")
SEVERAL = {"path_separator": "/", "label_delimiter": "|"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return SimpleNamespace(
        folder=folder,
        paths=as_paths(folder / "paths.csv"),
        columns=as_columns(folder / "columns.csv"),
        names=as_names(folder / "names.csv"),
        several=several(folder / "several.csv", 84),
        map=parent_map(folder / "parents.csv"),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, files, tiny, tiny_encoders):
    """``runs(method, task, mode)``: a run on paths, made once."""
    made: dict[tuple, SimpleNamespace] = {}

    def run(method, task, mode):
        key = method, task, mode
        if key not in made:
            data, tree = (
                (files.paths, {"path_separator": "/"}) if task == "single" else (files.several, SEVERAL)
            )
            out = tmp_path_factory.mktemp("run") / "out"
            settings = {"hierarchy": mode, **tree}
            if method == "tfidf":
                result = baseline(data, out, **settings)
            elif method == "head":
                result = fit(data, tiny, out, **settings)
            else:
                result = fit(data, tiny_encoders["bert"], out, method="encoder", **settings)
            made[key] = SimpleNamespace(result=result, classifier=result.classifier, folder=out)
        return made[key]

    return run


CASES = [
    (method, task, mode)
    for method in ("tfidf", "head", "encoder")
    for task in ("single", "multi")
    for mode in MODES
]


@pytest.mark.parametrize(("method", "task", "mode"), CASES)
def test_every_way_to_train_is_consistent_and_the_folder_gives_the_same(runs, method, task, mode):
    run = runs(method, task, mode)
    assert_consistent(run.classifier, TEXTS)
    loaded = sortal.load(run.folder / "model")
    np.testing.assert_allclose(
        loaded.predict_proba(TEXTS),
        run.classifier.predict_proba(TEXTS),
        atol=1e-6 if method != "tfidf" else 1e-12,
    )
    assert loaded.label_space == run.classifier.label_space
    names = loaded.classes_
    assert set(names) == (set(PATHS.values()) if task == "single" else {*PATHS.values(), "D", "B"})
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert [level["level"] for level in metrics["levels"]] == ["1", "2", "3"]
    assert [level["nodes"] for level in metrics["levels"]] == [2, 3, 2]
    assert 0 <= metrics["h_f1"] <= 1
    assert {"h_f1", "lca_distance"} <= set(metrics["intervals"])
    if task == "single":
        np.testing.assert_allclose(loaded.predict_proba(TEXTS).sum(1), 1)
        top = metrics["levels"][0]["accuracy"]
        assert top >= metrics["accuracy"]


@pytest.mark.parametrize("mode", MODES)
def test_a_tree_is_learned(runs, mode):
    assert runs("tfidf", "single", mode).result.metrics["h_f1"] > 0.9
    assert runs("tfidf", "multi", mode).result.metrics["h_f1"] > 0.8


@pytest.mark.parametrize("mode", ["levels", "conditional"])
def test_a_network_learns_its_choices(files, tiny, tmp_path, mode):
    settings = {"path_separator": "/", "hierarchy": mode, "epochs": 12, "early_stopping_patience": 12}
    run = fit(files.paths, tiny, tmp_path / "out", **settings)
    losses = [epoch["train_loss"] for epoch in run.record["training"]["history"]]
    assert losses[-1] < 0.1 * losses[0]
    assert run.metrics["h_f1"] > 0.75


def test_words_learn_several_labels_by_level_as_they_do_flat(runs):
    levels, flat = (runs("tfidf", "multi", mode).classifier for mode in ("levels", "flat"))
    np.testing.assert_array_equal(levels.predict_proba(TEXTS), flat.predict_proba(TEXTS))


def test_the_three_ways_to_say_a_tree_give_the_same_classifier(files, tmp_path, runs):
    of_paths = runs("tfidf", "single", "conditional")
    ways = {
        "columns": (files.columns, {"level_columns": LEVELS}),
        "map": (files.names, {"parent_map": str(files.map)}),
    }
    last = lambda name: name.rpartition("/")[2]  # noqa: E731
    for name, (data, how) in ways.items():
        run = baseline(data, tmp_path / name, hierarchy="conditional", **how)
        assert sorted(run.classifier.classes_) == sorted(map(last, of_paths.classifier.classes_))
        expected = dict(
            zip(
                map(last, of_paths.classifier.classes_),
                of_paths.classifier.predict_proba(TEXTS).T,
                strict=True,
            )
        )
        for label, column in zip(run.classifier.classes_, run.classifier.predict_proba(TEXTS).T, strict=True):
            np.testing.assert_allclose(column, expected[label], atol=1e-6)
        # Another file is read alike, and the map is not needed any more.
        again = sortal.load(tmp_path / name / "model").evaluate(data, n_resamples=0)
        assert again["h_f1"] > 0.9


def test_a_chosen_level_cuts_the_tree_in_all_files(files, tmp_path):
    ways = {
        "paths": (files.paths, {"path_separator": "/", "level": "2"}, {"D/D06", "D/D07", "B/B32"}),
        "columns": (files.columns, {"level_columns": LEVELS, "level": "class"}, {"D06", "D07", "B32"}),
        "map": (
            files.names,
            {"parent_map": str(files.map), "level_names": LEVELS, "level": "class"},
            {"D06", "D07", "B32"},
        ),
    }
    # A label that training never saw counts as its ancestor, too.
    (tmp_path / "more.csv").write_text(files.map.read_text() + "D06P,D06\n")
    for name, (data, how, labels) in ways.items():
        if name == "map":
            how = {**how, "parent_map": str(tmp_path / "more.csv")}
        run = baseline(data, tmp_path / name, **how)
        assert set(run.classifier.classes_) == labels
        loaded = sortal.load(tmp_path / name / "model")
        assert loaded.evaluate(data, n_resamples=0)["n"] == 60
        cut = {
            "paths": ("text,label", "D/D06/D06P"),
            "columns": ("text,section,class,subclass", "D,D06,D06P"),
            "map": ("text,label", "D06P"),
        }
        other = tmp_path / f"other-{name}.csv"
        other.write_text(f"{cut[name][0]}\nlinen,{cut[name][1]}\n")
        assert loaded.label_space.encode(loaded.read(other)).tolist() == [
            loaded.classes_.index(sorted(labels)[1])
        ]


WRONG = {
    "an empty level in a path": ("text,label", ["x,A/B", "y,A//C"], {"path_separator": "/"}, r"row 2.*'A//C' has an empty level 2"),
    "an end without a name": ("text,label", ["x,A/B", "y,A/"], {"path_separator": "/"}, r"row 2.*empty level 2"),
    "a gap in columns": ("text,s,c,g", ["x,A,B,C", "y,A,,C"], {"level_columns": "s,c,g"}, r"row 2.*column 'c' is empty, and column 'g'"),
    "no level at all": ("text,s,c", ["x,A,B", "y,,"], {"level_columns": "s,c"}, r"row 2.*column 's' has no label"),
    "two parents in columns": ("text,s,c", ["x,A,B", "y,C,B"], {"level_columns": "s,c"}, r"row 2.*column 'c' holds 'B' under 'C', and in row 1 it is under 'A'"),
    "its own parent in columns": ("text,s,c", ["x,A,B", "y,A,A"], {"level_columns": "s,c"}, r"row 2.*column 'c' repeats 'A'"),
    "a column that is not there": ("text,s,c", ["x,A,B"], {"level_columns": "s,clas"}, r"no column 'clas'"),
    "no such level": ("text,s,c", ["x,A,B", "y,C,D"], {"level_columns": "s,c", "level": "clas"}, r"level 'clas' is none"),
    "too few weights": ("text,s,c", [f"x {i},{way}" for i in range(20) for way in ("A,B", "C,D")], {"level_columns": "s,c", "hierarchy": "levels", "level_weights": "1,2,3"}, r"3 numbers, and the tree has 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_labels_that_form_no_tree_are_named(case, tmp_path):
    header, lines, settings, said = WRONG[case]
    data = tmp_path / "rows.csv"
    data.write_text("\n".join([header, *lines]) + "\n")
    with pytest.raises((DataError, ConfigError), match=said):
        baseline(data, tmp_path / "out", text="text", **settings)
    assert not (tmp_path / "out").exists()


MAPS = {
    "two parents": ("label,parent\nD06,D\nD06,B\n", r"row 2 \(line 3\).*'D06' has the parent 'B' here and 'D' in row 1"),
    "its own parent": ("label,parent\nD06,D06\n", r"row 1 \(line 2\).*'D06' is its own parent"),
    "a cycle": ("label,parent\nD06,D\nD,D07\nD07,D06\n", r"row 1.*'D06' under 'D' under 'D07' under 'D06'"),
    "no name": ("label,parent\n,D\n", "row 1 .*column 'label' is empty"),
    "other columns": ("name,parent\nD06,D\n", "lacks the column label"),
    "a label that is not in it": ("label,parent\nD06Q,D06\nD06C,D06\nD07,D\nD06,D\nB33,B\n", r"names.csv.*row 5.*label 'B32' is not in .*did you mean 'B33'"),
}  # fmt: skip


@pytest.mark.parametrize("case", MAPS)
def test_a_parent_map_that_is_no_tree_is_refused(case, files, tmp_path):
    content, said = MAPS[case]
    (tmp_path / "map.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        baseline(files.names, tmp_path / "out", parent_map=str(tmp_path / "map.csv"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path_separator": "/", "parent_map": "x.csv"}, "cannot be combined"),
        ({"level": "2"}, "needs a tree"),
        ({"hierarchy": "levels"}, "needs a tree"),
        ({"level_columns": "a"}, "names one column"),
        ({"level_columns": "a,b", "label": "c"}, "one way to give labels"),
        ({"level_columns": "a,b", "task": "multi"}, "one label per row"),
        ({"path_separator": "/", "level_weights": "1,2"}, "without hierarchy 'levels'"),
        ({"path_separator": "/", "hierarchy": "levels", "method": "instruct"}, "is for method"),
        (
            {"path_separator": "/", "hierarchy": "conditional", "method": "head", "class_weight": "balanced"},
            "'flat'",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, said, files, tmp_path):
    with pytest.raises(ConfigError, match=said):
        baseline(files.paths, tmp_path / "out", **settings)


@pytest.mark.parametrize("separator", ["|", " > ", ";"])
def test_a_separator_of_paths_is_not_taken_for_one_of_labels(separator, tmp_path):
    lines = [(text, PATHS[label].replace("/", separator)) for text, label in texts_with_labels(60)]
    run = baseline(write_csv(tmp_path / "rows.csv", lines), tmp_path / "out", path_separator=separator)
    assert run.classifier.label_space.task == "single"
    assert run.classifier.label_space.tree.levels == ("1", "2", "3")


def test_resuming_under_another_tree_is_refused(files, tiny, tmp_path, monkeypatch):
    own = tmp_path / "parents.csv"
    own.write_text(files.map.read_text())
    settings = {"parent_map": str(own), "epochs": 2}
    stopped = Loop.run

    def stop(self):
        stopped(self)
        raise RuntimeError("stopped")

    monkeypatch.setattr(Loop, "run", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        fit(files.names, tiny, tmp_path / "out", **settings)
    monkeypatch.setattr(Loop, "run", stopped)
    own.write_text(files.map.read_text().replace("D07,D", "D07,B"))
    config = build_config(json.loads((tmp_path / "out" / "run.json").read_text())["config"])
    with pytest.raises(CheckpointError, match="tree_of_labels"):
        run_of(config, resume=True, say=lambda line: None, quiet=True)


def test_another_file_may_not_move_a_node(files, tmp_path):
    baseline(files.columns, tmp_path / "out", level_columns=LEVELS)
    write_csv(tmp_path / "moved.csv", [("rope", "B", "D07", "")], ("text", *LEVELS))
    with pytest.raises(DataError, match="'D07' lies under 'B' here and under 'D' in the training data"):
        sortal.load(tmp_path / "out" / "model").evaluate(tmp_path / "moved.csv")


def test_an_edited_tree_is_refused(runs, tmp_path):
    folder = shutil.copytree(runs("tfidf", "single", "flat").folder / "model", tmp_path / "model")
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
def test_config_json_names_the_choices_and_another_tree_does_not_fit(runs, mode, tmp_path):
    folder = shutil.copytree(runs("head", "single", mode).folder / "model", tmp_path / "model")
    edit_json(folder / "sortal.json", hierarchy="flat")
    with pytest.raises(ModelError, match="disagree about the labels"):
        sortal.load(folder)


def test_predictions_hold_every_node(runs, tmp_path):
    run = runs("tfidf", "single", "conditional")
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


def test_serving_gives_the_same_and_describes_the_tree(runs):
    for task in ("single", "multi"):
        run = runs("tfidf", task, "conditional")
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
def test_an_export_that_cannot_keep_the_tree_is_refused(runs, task, mode, said, tmp_path):
    for to in ("hf", "onnx", "adapter"):
        with pytest.raises(ModelError, match=said):
            export(runs("head", task, mode).folder / "model", to=to, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_one_label_learned_flat_can_be_exported(runs):
    subject = read_subject(
        runs("head", "single", "flat").folder / "model", "hf", None, int8=False, without_blend=False
    )
    assert get_format("hf").check(subject) is None
    assert set(subject.space.names) == set(PATHS.values())


def test_the_report_and_the_terminal_show_the_levels(runs, tmp_path):
    run = runs("tfidf", "single", "levels")
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


def test_instruct_says_the_way_and_gives_every_node_its_mass(files, bases, tmp_path):
    run = instruct(files.columns, bases["llama"], tmp_path / "out", level_columns=LEVELS, max_length=400)
    scorer, space = run.classifier.scorer, run.classifier.label_space
    assert set(scorer.prompt.verbalizer.answers) == {path.replace("/", " / ") for path in PATHS.values()}
    # The answers share their beginnings: what D's labels have in common is in the trie once.
    spelled = sum(len(answer) + 1 for answer in scorer.prompt.answers)
    assert len(scorer._trie) - 1 < spelled - 3 * len("D / ")
    assert_consistent(run.classifier, TEXTS[:3])
    p, nodes = run.classifier.predict_proba(TEXTS[:3]), run.classifier.predict_node_proba(TEXTS[:3])
    under = [k for k, name in enumerate(space.names) if name.startswith("D06")]
    np.testing.assert_allclose(nodes[:, space.tree.index["D06"]], p[:, under].sum(1))
    assert_consistent(sortal.load(tmp_path / "out" / "model"), TEXTS[:3])


def test_a_blend_keeps_the_tree(files, tiny, tmp_path):
    run = fit(files.several, tiny, tmp_path / "out", hierarchy="conditional", blend="tfidf", **SEVERAL)
    assert_consistent(run.classifier, TEXTS)
    loaded = sortal.load(tmp_path / "out" / "model")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), run.classifier.predict_proba(TEXTS), atol=1e-6)


def test_the_estimator_speaks_in_nodes():
    rows = texts_with_labels(60)
    texts = [text for text, _ in rows]
    single = sortal.SortalClassifier("tfidf", settings={"path_separator": "/", "level": "2"})
    y = [PATHS[label] for _, label in rows]
    single.fit(texts, y)
    assert list(single.classes_) == ["B/B32", "D/D06", "D/D07"]
    assert single.score(texts, y) > 0.9
    assert single.predict_proba(TEXTS).shape == (len(TEXTS), 3)
    many = sortal.SortalClassifier("tfidf", settings={"path_separator": "/"})
    lists = [(path,) for path in y]
    many.fit(texts, lists)
    assert {"B", "D"} < set(many.classes_)
    assert many.score(texts, lists) > 0.8
    assert all("D" in row for row in many.predict(["dye stain", "rope cable"]))
    assert_consistent(many.classifier_, TEXTS)
    np.testing.assert_allclose(1 / (1 + np.exp(-many.decision_function(TEXTS))), many.predict_proba(TEXTS))
    with pytest.raises(InputError, match="differ by 'B', 'D'"):
        many.fit(texts, pd.DataFrame([{path: int(path == each) for path in PATHS.values()} for each in y]))


def test_import_of_trees_is_light():
    import subprocess

    code = "import sortal.config, sortal.hierarchy.tree, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_comparison_knows_its_own_finished_runs_on_a_tree(files, tmp_path):
    def cells(separator):
        given = {"data": str(files.paths), "path_separator": separator, "n_resamples": 100}
        return plan(given, ("majority",), 1, tmp_path)

    (cell,) = cells("/")
    quiet = [].append
    run_of(cell.config, say=quiet, quiet=True)
    assert cell.status == "finished"
    check([cell], read_parts(cell.config, quiet))
    (plain,) = cells(None)
    with pytest.raises(RunFolderError, match="tree_of_labels"):
        check([plain], read_parts(plain.config, quiet))
