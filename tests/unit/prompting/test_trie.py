from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.prompting.trie import Trie

END = 0
paths = st.lists(st.integers(1, 4), min_size=1, max_size=6).map(tuple)  # few tokens: prefixes are shared
answer_sets = st.lists(paths, min_size=1, max_size=12, unique=True)


def _terminated(answers):
    return [(*answer, END) for answer in answers]


def _path(trie, node):
    """Tokens from the root to ``node``."""
    found = []
    while node:
        found.append(int(trie.token[node]))
        node = int(trie.parent[node])
    return tuple(reversed(found))


def _prefixes(answers):
    return {answer[:n] for answer in answers for n in range(len(answer) + 1)}


@settings(max_examples=100, deadline=None)
@given(answer_sets)
def test_nodes_are_the_distinct_beginnings_of_the_answers(answers):
    """One answer may begin another: the terminator keeps them apart."""
    answers = _terminated(answers)
    trie = Trie.build(answers)
    nodes = [_path(trie, node) for node in range(len(trie))]
    assert len(nodes) == len(set(nodes))
    assert set(nodes) == _prefixes(answers)
    assert [nodes[end] for end in trie.ends] == answers
    assert trie.depth.tolist() == [len(path) for path in nodes]
    assert (trie.token[0], trie.parent[0]) == (-1, 0)


@settings(max_examples=60, deadline=None)
@given(answer_sets)
def test_nodes_come_breadth_first_and_after_their_parents(answers):
    trie = Trie.build(_terminated(answers))
    assert trie.depth.tolist() == sorted(trie.depth.tolist())
    assert (trie.parent[1:] < np.arange(1, len(trie))).all()


@settings(max_examples=60, deadline=None)
@given(answer_sets, st.randoms(use_true_random=False))
def test_the_order_of_the_answers_only_reorders_the_ends(answers, random):
    answers = _terminated(answers)
    order = random.sample(range(len(answers)), len(answers))
    trie, shuffled = Trie.build(answers), Trie.build([answers[i] for i in order])
    for name in ("token", "parent", "depth"):
        assert getattr(trie, name).tolist() == getattr(shuffled, name).tolist()
    assert shuffled.ends.tolist() == trie.ends[order].tolist()


@settings(max_examples=60, deadline=None)
@given(answer_sets)
def test_ancestors_labels_and_inner_nodes_follow_from_the_paths(answers):
    answers = _terminated(answers)
    trie = Trie.build(answers)
    nodes = [_path(trie, node) for node in range(len(trie))]
    for a, path in enumerate(nodes):
        for b, other in enumerate(nodes):
            assert trie.ancestors[a, b] == (path[: len(other)] == other)
        assert trie.labels_below[a] == sum(answer[: len(path)] == path for answer in answers)
        assert trie.has_children[a] == (path not in answers)
    assert trie.inner.tolist() == np.flatnonzero(trie.has_children).tolist()
    assert trie.labels_below[0] == len(answers)


@settings(max_examples=60, deadline=None)
@given(answer_sets)
def test_edges_lead_to_every_node_once_in_the_order_of_their_parents(answers):
    trie = Trie.build(_terminated(answers))
    assert sorted(trie.edges.tolist()) == list(range(1, len(trie)))
    keys = [(int(trie.parent[node]), int(node)) for node in trie.edges]
    assert keys == sorted(keys)


@settings(max_examples=60, deadline=None)
@given(answer_sets, st.data())
def test_children_of_some_nodes_come_parent_after_parent(answers, data):
    trie = Trie.build(_terminated(answers))
    nodes = sorted(data.draw(st.sets(st.integers(0, len(trie) - 1))))
    expected = [int(e) for node in nodes for e in trie.edges if trie.parent[e] == node]
    found = trie.children_of(np.array(nodes, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == expected


@settings(max_examples=60, deadline=None)
@given(answer_sets, st.integers(1, 3), st.integers(0, 99))
def test_accumulate_adds_up_the_edges_of_every_path(answers, n, seed):
    answers = _terminated(answers)
    trie = Trie.build(answers)
    edges = np.random.default_rng(seed).normal(size=(n, len(trie) - 1))
    paths = trie.accumulate(edges)
    nodes = [_path(trie, node) for node in range(len(trie))]
    of_edge = {nodes[node]: edges[:, e] for e, node in enumerate(trie.edges)}
    assert (paths[:, 0] == 0).all()
    for node, path in enumerate(nodes):
        expected = sum((of_edge[path[:k]] for k in range(1, len(path) + 1)), np.zeros(n))
        np.testing.assert_allclose(paths[:, node], expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(answer_sets, st.integers(1, 5), st.data())
def test_a_row_is_the_text_with_its_branches(answers, length, data):
    trie = Trie.build(_terminated(answers))
    wanted = data.draw(st.sets(st.sampled_from(trie.ends.tolist())))
    nodes = np.flatnonzero(trie.ancestors[sorted(wanted)].any(0))
    nodes = nodes[nodes > 0]
    trunk = np.arange(100, 100 + length)
    row = trie.row(trunk, nodes)
    assert row.ids[:length].tolist() == trunk.tolist()
    assert row.depth[:length].tolist() == list(range(length))
    assert row.visible[:length, :length].tolist() == np.tri(length, dtype=bool).tolist()
    assert not row.visible[:length, length:].any()
    for i, node in enumerate(nodes, start=length):
        path = _path(trie, int(node))
        assert tuple(row.ids[row.visible[i]].tolist()) == (*trunk.tolist(), *path)
        assert row.depth[i] == length + len(path) - 1
    assert row.kept is None


def test_without_terminators_a_question_may_begin_another():
    trie = Trie.build([(1, 2), (1,), (1, 2, 3)], terminated=False)
    assert [_path(trie, node) for node in trie.ends] == [(1, 2), (1,), (1, 2, 3)]
    with pytest.raises(ValueError, match="node of its own"):
        Trie.build([(1, 2), (1,)])


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize(
    "answers", [[(1, 2), (1, 2)], [(1,), ()], [()]], ids=["equal", "empty", "only empty"]
)
def test_answers_that_cannot_be_told_apart_are_refused(answers, terminated):
    with pytest.raises(ValueError, match="every answer must end at a node of its own"):
        Trie.build(answers, terminated=terminated)
