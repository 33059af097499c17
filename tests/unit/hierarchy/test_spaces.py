import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.config import build_config
from sortal.data.dataset import Dataset
from sortal.errors import ConfigError
from sortal.hierarchy.spaces import in_space, level_number, spelled, tree_space
from trees import ancestors, leaves, trees


def config(**settings_):
    return build_config({"data": "x.csv", **settings_})


def slashed(tree, name):
    return "/".join(tree.path(name))


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(0, 1000))
def test_paths_and_a_parent_map_give_the_same_tree(tmp_path_factory, tree, seed):
    rng = np.random.default_rng(seed)
    names = [*leaves(tree), tree.nodes[0]]
    rows = [tuple(dict.fromkeys(rng.choice(names, rng.integers(0, 3)))) for _ in range(6)] + [
        (n,) for n in names
    ]
    file = tmp_path_factory.mktemp("map") / "parents.csv"
    lines = [
        f"{n},{tree.nodes[up] if up >= 0 else ''}" for n, up in zip(tree.nodes, tree.parents, strict=True)
    ]
    file.write_text("\n".join(["label,parent", *lines]))
    named = Dataset.from_lists([""] * len(rows), rows, task="multi")
    paths = Dataset.from_lists(
        [""] * len(rows), [tuple(slashed(tree, n) for n in row) for row in rows], task="multi"
    )
    by_map = tree_space(config(parent_map=str(file)), named)
    by_path = tree_space(config(path_separator="/"), paths)
    assert set(by_map.names) == set(tree.nodes)
    assert {slashed(tree, name) for name in by_map.names} == set(by_path.names)
    gold = by_map.encode(in_space(named, by_map))
    order = [by_path.index[slashed(tree, name)] for name in by_map.names]
    np.testing.assert_array_equal(gold, by_path.encode(in_space(paths, by_path))[:, order])
    for row, found in zip(rows, gold, strict=True):
        expected = set().union(*(ancestors(tree, tree.index[name]) for name in row))
        assert {by_map.names[k] for k in np.flatnonzero(found)} == {tree.nodes[k] for k in expected}


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(1, 4), st.sampled_from(["single", "multi"]))
def test_a_cut_tree_has_the_ancestors_at_the_level(tree, level, task):
    level = min(level, len(tree.levels))
    rows = [(slashed(tree, name),) for name in tree.nodes]
    data = Dataset.from_lists([""] * len(rows), rows, task=task)
    cut = {slashed(tree, tree.path(name)[:level][-1]) for name in tree.nodes}
    if task == "single" and len(cut) < 2:
        return
    space = tree_space(config(path_separator="/", level=str(level)), data)
    assert set(space.names) == cut
    assert len(space.tree.levels) == level
    for before, after in zip(rows, in_space(data, space).labels, strict=True):
        assert after == ("/".join(before[0].split("/")[:level]),)


def test_spaces_around_names_do_not_count_and_unknown_labels_stay():
    data = Dataset.from_lists(["", ""], [("A / B",), ("A/C",)], task="multi")
    space = tree_space(config(path_separator="/"), data)
    assert space.names == ("A", "A/B", "A/C")
    assert spelled([("A / C",), ("A/ X",), ()], space) == [("A", "A/C"), ("A/X",), ()]


def test_part_of_the_rows_is_spelled_alike():
    data = Dataset.from_lists(["0", "1", "2"], [("A / B",), ("A/C",), ("A/ C",)], task="multi")
    space = tree_space(config(path_separator="/"), data)
    part = in_space(data.take([2, 0]), space)
    assert (part.texts, part.labels) == (["2", "0"], [("A/C",), ("A/B",)])
    assert part.take([1]).labels == [("A/B",)]


def test_levels_go_by_name_or_number():
    names = ("section", "class")
    assert [level_number(each, names) for each in (None, "section", "2")] == [2, 1, 2]
    for wrong in ("0", "3", "clas"):
        with pytest.raises(ConfigError, match=f"level '{wrong}' is none of the levels"):
            level_number(wrong, names)
