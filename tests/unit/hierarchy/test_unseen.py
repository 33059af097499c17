"""Labels that no training row has, taken out of other rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sortal.config_hierarchy import LabelTreeConfig
from sortal.config_unseen import check_unseen_labels
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError, DataError
from sortal.evaluation.words import left_out
from sortal.hierarchy.spaces import in_space, tree_space
from sortal.hierarchy.unseen import LeftOut, leave_out, left_out_figures


def rows(*labels, source="test.csv", task=None):
    texts = [f"text {number}" for number in range(len(labels))]
    return Dataset.from_lists(texts, labels, source=source, task=task)


def test_a_row_whose_only_label_is_unseen_goes_and_the_others_keep_text_id_and_number():
    space = LabelSpace(("a", "b"), "single")
    kept, found, sentence = leave_out(rows(("a",), ("new",), ("b",), ("new",), ("other",)), space)
    assert found == LeftOut(labels=2, given=3, rows=3, shortened=0, of=5)
    assert (kept.texts, kept.ids, kept.rows.tolist()) == (["text 0", "text 2"], ["1", "3"], [1, 3])
    assert space.encode(kept).tolist() == [0, 1]
    assert sentence == (
        "test.csv: 2 labels that no training row has are taken out ('new', 'other'): 3 of 5 rows are left out"
    )


def test_of_several_labels_the_unseen_ones_go_and_rows_that_never_had_any_stay():
    space = LabelSpace(("a", "b"), "multi")
    kept, found, sentence = leave_out(rows(("a", "new"), ("new",), (), ("b", "a")), space)
    assert found == LeftOut(labels=1, given=2, rows=1, shortened=1, of=4)
    assert kept.labels == [("a",), (), ("b", "a")]
    assert kept.rows.tolist() == [1, 3, 4]
    assert sentence.endswith(
        "1 label that no training row has is taken out ('new'): 1 of 4 rows is left out, 1 keeps other labels"
    )


@pytest.mark.parametrize("task", ["single", "multi"])
def test_rows_with_known_labels_only_are_the_same_object_and_nothing_is_said(task):
    data = rows(("a",), ("b",))
    assert leave_out(data, LabelSpace(("a", "b"), task)) == (data, None, "")


@pytest.mark.parametrize("task", ["single", "multi"])
def test_when_no_row_is_left_the_labels_are_named(task):
    with pytest.raises(DataError, match=r"test\.csv: no row is left .*'x', 'y'"):
        leave_out(rows(("x",), ("y",)), LabelSpace(("a", "b"), task))


def test_a_single_label_row_with_two_labels_is_still_refused_afterwards():
    space = LabelSpace(("a", "b"), "single")
    kept, _, _ = leave_out(rows(("a", "b"), ("new",)), space)
    with pytest.raises(DataError, match="row 1: has 2 labels"):
        space.check(kept)


def test_an_unseen_leaf_leaves_the_nearest_known_ancestor_of_its_path():
    train = rows(("D/D06/D06Q",), ("B/B32",), task="multi")
    space = tree_space(LabelTreeConfig(path_separator="/"), train)
    given = rows(("D/D06/D06C", "B/B32"), ("D/D07/D07B",), ("A/A01",), ("D/D06/D06Q", "D/D06/D06C"))
    kept, found, _ = leave_out(in_space(given, space), space)
    assert kept.labels == [("D/D06", "B/B32"), ("D",), ("D/D06/D06Q", "D/D06")]
    assert found == LeftOut(labels=3, given=4, rows=1, shortened=3, of=4)
    gold = space.encode(kept)
    assert {space.names[k] for k in np.flatnonzero(gold[0])} == {"D", "D/D06", "B", "B/B32"}


def test_of_one_label_per_row_an_unseen_leaf_is_no_right_answer_at_its_parent():
    train = rows(("D/D06",), ("D/D06/D06Q",), ("B/B32",), task="single")
    space = tree_space(LabelTreeConfig(path_separator="/"), train)
    kept, found, _ = leave_out(in_space(rows(("D/D06/D06C",), ("B/B32",)), space), space)
    assert kept.labels == [("B/B32",)]
    assert found == LeftOut(labels=1, given=1, rows=1, shortened=0, of=2)


def test_a_parent_map_is_kept_for_unseen_leaves_and_survives_the_model_folder(tmp_path):
    path = tmp_path / "parents.csv"
    path.write_text("label,parent\nD,\nD06,D\nD06Q,D06\nD06C,D06\nB,\nB32,B\nA,\nA01,A\n", encoding="utf-8")
    config = LabelTreeConfig(parent_map=str(path))
    train = rows(("D06Q",), ("B32",), task="multi")
    space = tree_space(config, train)
    assert LabelSpace.from_json(space.to_json()).tree.above("D06C") == "D06"
    given = in_space(rows(("D06C",), ("A01", "B32"), ("A01",)), space)
    assert given.labels == [("D06C",), ("A01", "B32"), ("A01",)]  # refused unless they are dropped
    kept, found, _ = leave_out(given, space)
    assert kept.labels == [("D06",), ("B32",)]
    assert found == LeftOut(labels=2, given=3, rows=1, shortened=2, of=3)


@pytest.mark.parametrize("task", ["single", "multi"])
def test_below_the_chosen_level_no_label_is_unseen(task):
    space = tree_space(
        LabelTreeConfig(path_separator="/", level="2"), rows(("D/D06/D06Q",), ("B/B32/B32B",), task=task)
    )
    data = in_space(rows(("D/D06/D06C",), ("B/B32",)), space)
    assert leave_out(data, space) == (data, None, "")
    assert data.labels == [("D/D06",), ("B/B32",)]


def test_rows_left_out_are_wrong_in_the_accuracy_of_all():
    found = LeftOut(labels=2, given=25, rows=25, shortened=0, of=100)
    figures = left_out_figures(found, {"task": "single", "accuracy": 0.8})
    assert figures == {**found.to_json(), "accuracy_of_all": pytest.approx(0.6)}
    assert left_out(figures) == (
        "Test rows with labels that were not trained on were left out: 25 of 100 (25.0%); 2 such labels. "
        "With the rows left out counted as wrong, accuracy is 0.600."
    )


def test_of_several_labels_those_taken_out_are_missed_in_the_f1_of_all():
    """scikit-learn's micro-F1 of the same answers with a column for the label that is never predicted."""
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 2, (2, 50, 3))
    unseen = np.zeros((50, 1), int)
    unseen[:20] = 1
    metrics = {
        "task": "multi",
        "f1_micro": f1_score(gold, predicted, average="micro"),
        "per_label": [
            {"support": int(gold[:, k].sum()), "predicted": int(predicted[:, k].sum())} for k in range(3)
        ],
    }
    figures = left_out_figures(LeftOut(labels=1, given=20, rows=0, shortened=20, of=50), metrics)
    with_it = np.hstack([gold, unseen]), np.hstack([predicted, np.zeros_like(unseen)])
    assert figures["f1_micro_of_all"] == pytest.approx(f1_score(*with_it, average="micro"))
    words = left_out(figures)
    assert "0 of 50 (0.0%), and 20 more lost some of their labels; 1 such label." in words
    assert f"micro-F1 is at most {figures['f1_micro_of_all']:.3f}." in words


def test_another_policy_is_refused():
    with pytest.raises(ConfigError, match="unseen_labels is 'ignore'"):
        check_unseen_labels("ignore")
