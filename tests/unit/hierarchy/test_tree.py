import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.errors import DataError
from sortal.hierarchy.tree import LabelTree
from trees import SMALL, ancestors, trees


def test_levels_paths_and_words_of_a_small_tree():
    assert SMALL.levels == ("1", "2", "3")
    assert SMALL.path("D06Q") == ("D", "D06", "D06Q")
    assert SMALL.path("B") == ("B",)
    assert [SMALL.nodes[k] for k in SMALL.at_level(2)] == ["B32", "D06", "D07"]
    assert SMALL.wording("D06Q") == "D / D06 / D06Q"
    paths = LabelTree.from_parents({"a": None, "a/b": "a"}, ["a", "a/b"], separator="/")
    assert paths.own_name("a/b") == "b"
    assert paths.wording("a/b") == "a / b"


@settings(deadline=None, max_examples=60)
@given(trees(), st.integers(0, 1000))
def test_closing_adds_all_ancestors_and_nothing_else(tree, seed):
    given_ = (np.random.default_rng(seed).random((5, len(tree))) < 0.3).astype(np.uint8)
    closed = tree.close(given_)
    for row, found in zip(given_, closed, strict=True):
        assert set(np.flatnonzero(found)) == set().union(*(ancestors(tree, k) for k in np.flatnonzero(row)))
    np.testing.assert_array_equal(tree.close(closed), closed)


@settings(deadline=None, max_examples=60)
@given(trees(), st.integers(0, 1000))
def test_sums_are_those_of_the_nodes_below_and_never_less_than_one_of_them(tree, seed):
    own = np.random.default_rng(seed).dirichlet(np.full(len(tree), 0.2), size=4)
    found = tree.sums(own)
    for node in range(len(tree)):
        below = [k for k in range(len(tree)) if node in ancestors(tree, k)]
        np.testing.assert_allclose(found[:, node], own[:, below].sum(1), atol=1e-12)
        if (up := tree.parents[node]) >= 0:
            assert (found[:, node] <= found[:, up]).all()  # exactly, rounding included
    assert (found <= 1).all()


@settings(deadline=None, max_examples=60)
@given(trees(), st.integers(0, 1000))
def test_monotone_lowers_a_node_to_its_least_ancestor(tree, seed):
    p = np.random.default_rng(seed).random((4, len(tree)))
    found = tree.monotone(p)
    for node in range(len(tree)):
        np.testing.assert_array_equal(found[:, node], p[:, sorted(ancestors(tree, node))].min(1))


@settings(deadline=None, max_examples=30)
@given(trees())
def test_a_tree_survives_json_and_an_edited_one_is_refused(tree):
    saved = json.loads(json.dumps(tree.to_json()))
    assert LabelTree.from_json(saved) == tree
    changed = [*saved["parents"]]
    changed[0] = -1 if changed[0] >= 0 else (1 if len(tree) > 1 else -1)
    with pytest.raises(DataError):
        LabelTree.from_json({**saved, "parents": changed})


@pytest.mark.parametrize(
    ("nodes", "parents", "levels", "said"),
    [
        (("a", "b"), (1, 0), ("1",), "its own ancestors"),
        (("a",), (0,), ("1",), "its own ancestors"),
        (("a", "a"), (-1, 0), ("1", "2"), "unique names"),
        (("a", "b"), (-1, 5), ("1", "2"), "not one of its nodes"),
        (("a", "b"), (-1, 0), ("1",), "2 levels deep and has 1 level names"),
    ],
)
def test_what_is_no_tree_is_refused(nodes, parents, levels, said):
    with pytest.raises(DataError, match=said):
        LabelTree(nodes, parents, levels)
