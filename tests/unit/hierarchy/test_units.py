import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError
from sortal.hierarchy.losses import tree_loss
from sortal.hierarchy.units import unit_plan
from trees import SMALL, ancestors, leaves, random_scores, trees

MODES = st.sampled_from(["levels", "conditional"])


def labels_of(tree, seed):
    """All leaves and some inner nodes, so that rows may end anywhere."""
    rng = np.random.default_rng(seed)
    inner = [name for name in tree.nodes if name not in leaves(tree) and rng.random() < 0.5]
    return tuple(sorted((*leaves(tree), *inner)))


def single(tree, seed):
    names = labels_of(tree, seed)
    return LabelSpace(names, "single", tree) if len(names) > 1 else None


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


@settings(deadline=None, max_examples=60)
@given(trees(), st.integers(0, 1000))
def test_conditional_scores_are_log_probabilities_worked_out_from_the_top(tree, seed):
    if (space := single(tree, seed)) is None:
        return
    units = unit_plan(space, "conditional")
    z = random_scores(seed, 3, len(units.names))
    scores = units.scores(z).astype(np.float64)
    np.testing.assert_allclose(np.exp(scores).sum(1), 1, atol=1e-5)
    of = {name: k for k, name in enumerate(units.names)}
    for row in range(3):
        for k, name in enumerate(space.names):
            path, total = tree.path(name), 0.0
            stays = name in space.names and any(tree.parents[c] == tree.index[name] for c in range(len(tree)))
            for node in [*path, f"{name} itself"] if stays else path:
                above = tree.index[name] if node.endswith(" itself") else tree.parents[tree.index[node]]
                group = [c for c, up in zip(tree.nodes, tree.parents, strict=True) if up == above]
                if above >= 0 and tree.nodes[above] in space.names:
                    group.append(f"{tree.nodes[above]} itself")
                values = np.exp(z[row, [of[c] for c in group]].astype(np.float64))
                total += np.log(values[group.index(node)] / values.sum())
            assert scores[row, k] == pytest.approx(total, abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(0, 1000))
def test_level_scores_are_the_mean_of_the_levels_log_probabilities(tree, seed):
    if (space := single(tree, seed)) is None:
        return
    weights = np.random.default_rng(seed).random(len(tree.levels)) + 0.1
    units = unit_plan(space, "levels", weights.tolist())
    z = random_scores(seed, 2, len(units.names)).astype(np.float64)
    expected = np.zeros((2, len(space)))
    ends = [*units.starts.tolist(), len(units.names)]
    for level, (start, end, weight) in enumerate(zip(ends, ends[1:], weights / weights.sum(), strict=False)):
        says = units.says[start:end]
        assert len(set(says)) == len(says)
        logp = z[:, start:end] - np.log(np.exp(z[:, start:end]).sum(1, keepdims=True))
        for k, name in enumerate(space.names):
            expected[:, k] += weight * logp[:, says.index(tree.path(name)[: level + 1][-1])]
    np.testing.assert_allclose(units.scores(z), expected, atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(trees(), st.integers(0, 1000))
def test_nodes_given_their_parent_are_products_and_fall_along_every_path(tree, seed):
    units = unit_plan(LabelSpace(tree.nodes, "multi", tree), "conditional")
    z = random_scores(seed, 3, len(tree))
    p = sigmoid(units.scores(z))
    for node, up in enumerate(tree.parents):
        np.testing.assert_allclose(
            p[:, node], sigmoid(z[:, sorted(ancestors(tree, node))]).prod(1), atol=1e-6
        )
        if up >= 0:
            assert (p[:, node] <= p[:, up] + 1e-12).all()


def test_certainty_stays_a_number():
    units = unit_plan(LabelSpace(SMALL.nodes, "multi", SMALL), "conditional")
    for size in (1e4, -1e4):
        assert np.isfinite(units.scores(np.full((1, len(SMALL)), size))).all()


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(0, 1000), MODES)
def test_the_loss_of_a_label_is_minus_its_score_however_a_step_is_cut(tree, seed, mode):
    if (space := single(tree, seed)) is None:
        return
    units = unit_plan(space, mode)
    loss, z = tree_loss(units), torch.from_numpy(random_scores(seed, 5, len(units.names))).requires_grad_()
    gold = torch.from_numpy(np.random.default_rng(seed).integers(0, len(space), 5))
    whole = loss(z, gold)
    scores = units.scores(z.detach().numpy())[np.arange(5), gold.numpy()]
    np.testing.assert_allclose(whole.detach().numpy(), -scores, atol=1e-4)
    (grad,) = torch.autograd.grad(whole.sum(), z)
    parts = [loss(z[part], gold[part]) for part in (slice(0, 1), slice(1, 4), slice(4, 5))]
    (cut,) = torch.autograd.grad(torch.cat(parts).sum(), z)
    torch.testing.assert_close(cut, grad, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(0, 1000), MODES)
def test_the_loss_of_several_labels_counts_the_nodes_it_should(tree, seed, mode):
    rng = np.random.default_rng(seed)
    units = unit_plan(LabelSpace(tree.nodes, "multi", tree), mode)
    z = random_scores(seed, 4, len(tree))
    gold = tree.close((rng.random((4, len(tree))) < 0.3).astype(np.uint8))
    found = tree_loss(units)(torch.from_numpy(z), torch.from_numpy(gold)).numpy()
    right = -np.log(np.where(gold, sigmoid(z), sigmoid(-z.astype(np.float64))))
    for row in range(4):
        total = 0.0
        for node, up in enumerate(tree.parents):
            if mode == "levels":
                level = tree.depth[node]
                total += right[row, node] / len(tree.levels) / len(tree.at_level(level))
            elif up < 0 or gold[row, up]:
                total += right[row, node] / len(tree)
        assert found[row] == pytest.approx(total, rel=1e-4, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(0, 1000), MODES)
def test_targets_and_what_counts_follow_the_label(tree, seed, mode):
    if (space := single(tree, seed)) is None:
        return
    units = unit_plan(space, mode)
    gold = np.arange(len(space))
    targets = units.targets(gold)
    counted = units.counted(targets)
    assert (targets <= counted).all()
    for label in gold:
        assert set(np.flatnonzero(targets[label])) == set(units.steps[label][units.steps[label] >= 0])
        chosen = set(units.group[targets[label] > 0])
        np.testing.assert_array_equal(counted[label], [g in chosen for g in units.group])
    assert len(set(units.names)) == len(units.names)


def test_weights_must_be_as_many_as_levels():
    with pytest.raises(ConfigError, match="2 numbers, and the tree has 3 levels"):
        unit_plan(LabelSpace(SMALL.nodes, "multi", SMALL), "levels", [1, 2])
