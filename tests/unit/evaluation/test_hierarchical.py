import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from sortal.evaluation.decision import Decision
from sortal.evaluation.hierarchical import tree_figures
from sortal.evaluation.metrics import evaluate
from trees import SMALL, ancestors, leaves, random_scores, trees


class Space:
    def __init__(self, names, task):
        self.names, self.task = names, task


def figures(gold, predicted, names, task, tree, n_resamples=0):
    return tree_figures(
        np.asarray(gold), np.asarray(predicted), names, task, tree, n_resamples=n_resamples, seed=0
    )


def test_a_hand_worked_single_label_example():
    names = ("B32", "D06C", "D06Q", "D07")
    # gold D06Q: answers D06Q (3 of 3 nodes), D06C (D, D06), D07 (D), B32 (none), and no answer
    found = figures([2, 2, 2, 2, 2], [2, 1, 3, 0, -1], names, "single", SMALL)
    hits, given_, gold = 3 + 2 + 1 + 0 + 0, 3 + 3 + 2 + 2 + 0, 15
    assert found.headlines["h_precision"] == pytest.approx(hits / given_)
    assert found.headlines["h_recall"] == pytest.approx(hits / gold)
    assert found.headlines["h_f1"] == pytest.approx(2 * hits / (given_ + gold))
    # edges: 0; up and down under D06: 2; D06Q-D06-D-D07: 3; over the root: 3 + 2; to the root: 3
    assert found.headlines["lca_distance"] == pytest.approx((0 + 2 + 3 + 5 + 3) / 5)
    top, middle, leaf = found.levels
    assert (top["nodes"], middle["nodes"], leaf["nodes"]) == (2, 3, 2)
    assert [level["accuracy"] for level in found.levels] == [3 / 5, 2 / 5, 1 / 5]
    assert top["f1_micro"] == pytest.approx(2 * 3 / (4 + 5))
    assert middle["f1_macro"] == pytest.approx((2 * 2 / (2 + 5) + 0 + 0) / 3)


def test_a_hand_worked_multi_label_example():
    names = SMALL.nodes  # B, B32, D, D06, D06C, D06Q, D07
    gold = SMALL.close(np.array([[0, 0, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 1]], np.uint8))
    answer = SMALL.close(np.array([[0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]], np.uint8))
    found = figures(gold, answer, names, "multi", SMALL)
    assert found.headlines["h_precision"] == pytest.approx(4 / 5)  # D, D06 of D, D06, D06C; D, D07
    assert found.headlines["h_recall"] == pytest.approx(4 / 7)
    assert found.headlines["lca_distance"] == pytest.approx((2 + 2) / 2)
    assert "accuracy" not in found.levels[0]
    assert found.levels[1]["f1_micro"] == pytest.approx(2 * 2 / (2 + 3))


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(0, 1000), st.integers(1, 15))
def test_single_label_figures_equal_a_walk_over_the_tree(tree, seed, n):
    rng = np.random.default_rng(seed)
    names = tuple(sorted({*leaves(tree), tree.nodes[0], tree.nodes[-1]}))
    gold, answer = rng.integers(0, len(names), n), rng.integers(-1, len(names), n)
    found = figures(gold, answer, names, "single", tree)
    sets = [
        [ancestors(tree, tree.index[names[k]]) if k >= 0 else set() for k in part] for part in (gold, answer)
    ]
    hits = sum(len(g & p) for g, p in zip(*sets, strict=True))
    sizes = [sum(map(len, part)) for part in sets]
    assert found.headlines["h_f1"] == pytest.approx(2 * hits / sum(sizes))
    assert found.headlines["h_precision"] == pytest.approx(hits / sizes[1] if sizes[1] else 0.0)
    edges = []
    for one, other in zip(*sets, strict=True):
        edges.append(len(one) + len(other) - 2 * len(one & other))
    assert found.headlines["lca_distance"] == pytest.approx(np.mean(edges))
    for number, level in enumerate(found.levels, start=1):
        nodes = set(tree.at_level(number).tolist())
        true, said = ([[next(iter(s & nodes), -1)] for s in part] for part in sets)
        labels = sorted(nodes)
        matrix = [np.array([[k in row for k in labels] for row in part], int) for part in (true, said)]
        for average in ("micro", "macro"):
            expected = sk.f1_score(*matrix, average=average, zero_division=0) if len(labels) > 1 else sk.f1_score(
                matrix[0][:, 0], matrix[1][:, 0], zero_division=0
            )  # fmt: skip
            assert level[f"f1_{average}"] == pytest.approx(expected)
        reached = [(t[0], s[0]) for t, s in zip(true, said, strict=True) if t[0] >= 0]
        assert level["rows"] == len(reached)
        assert level["accuracy"] == (
            pytest.approx(np.mean([t == s for t, s in reached])) if reached else None
        )


@settings(deadline=None, max_examples=30)
@given(trees(), st.integers(0, 1000), st.sampled_from([0.4, 1.0, 7.0]))
def test_several_labels_are_closed_and_no_node_is_likelier_than_its_parent(tree, seed, temperature):
    scores = random_scores(seed, 6, len(tree))
    limits = tuple(np.random.default_rng(seed).random(len(tree)))
    decision = Decision("multi", temperature, limits, tree=tree)
    p = decision.probabilities(scores)
    given_ = decision.decide(p)
    for node, up in enumerate(tree.parents):
        if up >= 0:
            assert (p[:, node] <= p[:, up]).all()
            assert (given_[:, node] <= given_[:, up]).all()


def test_evaluate_adds_figures_with_intervals_only_where_there_is_a_tree():
    rng = np.random.default_rng(0)
    names = ("B32", "D06C", "D06Q", "D07")
    scores, gold = rng.normal(size=(60, 4)), rng.integers(0, 4, 60)
    plain = evaluate(scores, gold, Decision("single"), Space(names, "single"), n_resamples=100)
    found = evaluate(scores, gold, Decision("single", tree=SMALL), Space(names, "single"), n_resamples=100)
    assert not {"levels", "h_f1"} & set(plain)
    assert {k: v for k, v in found.items() if k in plain and k != "intervals"} == {
        k: v for k, v in plain.items() if k != "intervals"
    }
    for name in ("h_f1", "lca_distance"):
        low, high = found["intervals"][name]
        assert low < found[name] < high
    leaf = found["levels"][2]
    assert leaf["intervals"]["accuracy"][0] < leaf["accuracy"] < leaf["intervals"]["accuracy"][1]
    # Every leaf right is every level right.
    right = np.eye(4)[gold] * 9
    sure = evaluate(right, gold, Decision("single", tree=SMALL), Space(names, "single"), n_resamples=100)
    assert (sure["h_f1"], sure["lca_distance"]) == (1, 0)
    assert all(level["accuracy"] == 1 and level["intervals"]["accuracy"][0] > 0.8 for level in sure["levels"])
