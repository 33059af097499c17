"""A fitted model in memory, in pickles and in copies."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from baseline_runs import baseline
from sortal.estimator.kept_model import KeptModel, _remove
from tiny_runs import rows, write_csv


@pytest.fixture
def folder(tmp_path):
    data = write_csv(tmp_path / "d.csv", rows(40))
    return baseline(data, tmp_path / "run").folder / "model"


@pytest.fixture
def kept(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "taken")
    return KeptModel.take(tmp_path / "taken", None)


def test_it_holds_the_folders_files_and_answers_as_the_folder_does(kept, folder, tmp_path):
    import sortal

    assert not (tmp_path / "taken").exists()
    assert {p.name for p in kept.folder.iterdir()} == {p.name for p in folder.iterdir()}
    texts = ["fine", "ugly", ""]
    np.testing.assert_array_equal(
        kept.classifier.predict_proba(texts), sortal.load(folder).predict_proba(texts)
    )


@pytest.mark.parametrize("again", [copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))])
def test_a_copy_does_not_end_with_the_original(kept, again):
    expected = kept.classifier.predict_proba(["fine", "ugly"])
    other = again(kept)
    first = kept.folder
    del kept
    gc.collect()
    assert other.folder != first
    np.testing.assert_array_equal(other.classifier.predict_proba(["fine", "ugly"]), expected)


def test_a_pickle_holds_files_and_no_pickled_model(kept):
    assert kept.classifier is not None  # loaded, and still not in the pickle
    state = kept.__getstate__()
    assert set(state) == {"files"}
    assert set(state["files"]) == {"README.md", "sortal.json", "tfidf.json", "tfidf.safetensors"}
    assert b"sortal.methods" not in pickle.dumps(kept)


def test_the_folder_goes_with_the_object(kept):
    other = copy.deepcopy(kept)
    place = other.folder.parent
    assert place.is_dir()
    del other
    gc.collect()
    assert not place.exists()
    assert kept.folder.is_dir()


def test_a_forked_child_leaves_its_parents_folder(tmp_path: Path):
    _remove(tmp_path, os.getpid() + 1)
    assert tmp_path.is_dir()
    _remove(tmp_path, os.getpid())
    assert not tmp_path.exists()
