"""How a tree of labels is said, and what is refused: paths, a column per level, a parent map."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sortal
from baseline_runs import baseline
from sortal.config import build_config
from sortal.errors import CheckpointError, ConfigError, DataError
from sortal.run import run as run_of
from sortal.training.loop import Loop
from tiny_runs import fit, write_csv
from tree_runs import LEVELS, PATHS, TEXTS, texts_with_labels


def test_the_three_ways_to_say_a_tree_give_the_same_classifier(tree_files, tmp_path, tree_runs):
    of_paths = tree_runs("tfidf", "single", "conditional")
    ways = {
        "columns": (tree_files.columns, {"level_columns": LEVELS}),
        "map": (tree_files.names, {"parent_map": str(tree_files.map)}),
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


def test_a_chosen_level_cuts_the_tree_in_all_files(tree_files, tmp_path):
    ways = {
        "paths": (tree_files.paths, {"path_separator": "/", "level": "2"}, {"D/D06", "D/D07", "B/B32"}),
        "columns": (tree_files.columns, {"level_columns": LEVELS, "level": "class"}, {"D06", "D07", "B32"}),
        "map": (
            tree_files.names,
            {"parent_map": str(tree_files.map), "level_names": LEVELS, "level": "class"},
            {"D06", "D07", "B32"},
        ),
    }
    # A label that training never saw counts as its ancestor, too.
    (tmp_path / "more.csv").write_text(tree_files.map.read_text() + "D06P,D06\n")
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


@pytest.mark.parametrize("separator", ["|", " > ", ";"])
def test_a_separator_of_paths_is_not_taken_for_one_of_labels(separator, tmp_path):
    lines = [(text, PATHS[label].replace("/", separator)) for text, label in texts_with_labels(60)]
    run = baseline(write_csv(tmp_path / "rows.csv", lines), tmp_path / "out", path_separator=separator)
    assert run.classifier.label_space.task == "single"
    assert run.classifier.label_space.tree.levels == ("1", "2", "3")


# what is refused


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
def test_a_parent_map_that_is_no_tree_is_refused(case, tree_files, tmp_path):
    content, said = MAPS[case]
    (tmp_path / "map.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        baseline(tree_files.names, tmp_path / "out", parent_map=str(tmp_path / "map.csv"))


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
def test_settings_that_contradict_each_other_are_refused(settings, said, tree_files, tmp_path):
    with pytest.raises(ConfigError, match=said):
        baseline(tree_files.paths, tmp_path / "out", **settings)


def test_another_file_may_not_move_a_node(tree_files, tmp_path):
    baseline(tree_files.columns, tmp_path / "out", level_columns=LEVELS)
    write_csv(tmp_path / "moved.csv", [("rope", "B", "D07", "")], ("text", *LEVELS))
    with pytest.raises(DataError, match="'D07' lies under 'B' here and under 'D' in the training data"):
        sortal.load(tmp_path / "out" / "model").evaluate(tmp_path / "moved.csv")


def test_resuming_under_another_tree_is_refused(tree_files, tiny, tmp_path, monkeypatch):
    own = tmp_path / "parents.csv"
    own.write_text(tree_files.map.read_text())
    settings = {"parent_map": str(own), "epochs": 2}
    stopped = Loop.run

    def stop(self):
        stopped(self)
        raise RuntimeError("stopped")

    monkeypatch.setattr(Loop, "run", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        fit(tree_files.names, tiny, tmp_path / "out", **settings)
    monkeypatch.setattr(Loop, "run", stopped)
    own.write_text(tree_files.map.read_text().replace("D07,D", "D07,B"))
    config = build_config(json.loads((tmp_path / "out" / "run.json").read_text())["config"])
    with pytest.raises(CheckpointError, match="tree_of_labels"):
        run_of(config, resume=True, say=lambda line: None, quiet=True)
