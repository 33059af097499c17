"""Labels that form a tree, end to end: every method trains on one, in every mode, and answers consistently."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

import sortal
from instruct_runs import instruct
from sortal.comparison.cells import check, plan
from sortal.errors import InputError, RunFolderError
from sortal.parts import read_parts
from sortal.run import run as run_of
from tiny_runs import fit
from tree_runs import LEVELS, PATHS, SEVERAL, TEXTS, assert_consistent, texts_with_labels

MODES = ("flat", "levels", "conditional")
CASES = [
    (method, task, mode)
    for method in ("tfidf", "head", "encoder")
    for task in ("single", "multi")
    for mode in MODES
]


@pytest.mark.parametrize(("method", "task", "mode"), CASES)
def test_every_way_to_train_is_consistent_and_the_folder_gives_the_same(tree_runs, method, task, mode):
    run = tree_runs(method, task, mode)
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
def test_a_tree_is_learned(tree_runs, mode):
    assert tree_runs("tfidf", "single", mode).result.metrics["h_f1"] > 0.9
    assert tree_runs("tfidf", "multi", mode).result.metrics["h_f1"] > 0.8


@pytest.mark.parametrize("mode", ["levels", "conditional"])
def test_a_network_learns_its_choices(tree_files, tiny, tmp_path, mode):
    settings = {"path_separator": "/", "hierarchy": mode, "epochs": 12, "early_stopping_patience": 12}
    run = fit(tree_files.paths, tiny, tmp_path / "out", **settings)
    losses = [epoch["train_loss"] for epoch in run.record["training"]["history"]]
    assert losses[-1] < 0.1 * losses[0]
    assert run.metrics["h_f1"] > 0.75


def test_words_learn_several_labels_by_level_as_they_do_flat(tree_runs):
    levels, flat = (tree_runs("tfidf", "multi", mode).classifier for mode in ("levels", "flat"))
    np.testing.assert_array_equal(levels.predict_proba(TEXTS), flat.predict_proba(TEXTS))


def test_instruct_says_the_way_and_gives_every_node_its_mass(tree_files, bases, tmp_path):
    run = instruct(tree_files.columns, bases["llama"], tmp_path / "out", level_columns=LEVELS, max_length=400)
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


def test_a_blend_keeps_the_tree(tree_files, tiny, tmp_path):
    run = fit(tree_files.several, tiny, tmp_path / "out", hierarchy="conditional", blend="tfidf", **SEVERAL)
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


def test_a_comparison_knows_its_own_finished_runs_on_a_tree(tree_files, tmp_path):
    def cells(separator):
        given = {"data": str(tree_files.paths), "path_separator": separator, "n_resamples": 100}
        return plan(given, ("majority",), 1, tmp_path)

    (cell,) = cells("/")
    quiet = [].append
    run_of(cell.config, say=quiet, quiet=True)
    assert cell.status == "finished"
    check([cell], read_parts(cell.config, quiet))
    (plain,) = cells(None)
    with pytest.raises(RunFolderError, match="tree_of_labels"):
        check([plain], read_parts(plain.config, quiet))
