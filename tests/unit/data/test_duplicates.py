from __future__ import annotations

from sortal.data.dataset import Dataset
from sortal.data.duplicates import clusters, overlap


def test_clusters_join_equal_texts_and_groups_transitively():
    texts = ["a", "B", "b ", "c", "d", "e", "f"]
    groups = ["1", "1", "2", "2", None, None, "3"]
    found = clusters(Dataset.from_lists(texts, groups=groups)).tolist()
    assert len(set(found[:4])) == 1
    assert len(set(found)) == 4


def test_group_named_like_a_row_number_is_not_mixed_up_with_ungrouped_rows():
    found = clusters(Dataset.from_lists(["a", "b", "c"], groups=[None, "0", "0"])).tolist()
    assert found[0] != found[1] == found[2]


def test_overlap_reports_pairs_and_a_sentence():
    train = Dataset.from_lists(["Hello  world", "x", "", "hello world"], source="train.csv")
    test = Dataset.from_lists(["new", "hello WORLD\n", ""], source="test.csv")
    found = overlap(train, test)
    assert found.pairs.tolist() == [[0, 1], [3, 1]]
    assert found.in_second.tolist() == [1]
    assert "1 row of test.csv (33.3%) also occurs in train.csv" in found.warning
    assert "row 2 is row 1 there" in found.warning


def test_no_overlap_is_silent():
    found = overlap(Dataset.from_lists(["a"]), Dataset.from_lists(["b"]))
    assert found.warning == ""
    assert found.pairs.shape == (0, 2)
    assert found.in_second.tolist() == []
