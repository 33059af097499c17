from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.config import build_config
from sortal.errors import ConfigError
from sortal.training.losses import Loss, make_loss

NAMES = ("alpha", "beta", "gamma")
GOLD = np.array([0, 0, 0, 0, 1, 1, 2])
MULTI = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=np.uint8)


def _logits(n, labels=3, seed=0):
    return torch.randn(n, labels, generator=torch.Generator().manual_seed(seed)) * 2


def _loss(task="single", gold=None, **settings):
    gold = (GOLD if task == "single" else MULTI) if gold is None else gold
    return make_loss(build_config(settings), task, NAMES, gold)


# plain


def test_single_label_is_cross_entropy_per_example():
    logits, targets = _logits(7), torch.from_numpy(GOLD)
    expected = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(_loss()(logits, targets), expected)


def test_multi_label_is_bce_averaged_over_labels_per_example():
    logits, targets = _logits(4), torch.from_numpy(MULTI).float()
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)
    torch.testing.assert_close(_loss("multi")(logits, targets), expected)


def test_losses_are_fp32_whatever_the_logits_are():
    logits = _logits(7).bfloat16()
    found = _loss()(logits, torch.from_numpy(GOLD))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, _loss()(logits.float(), torch.from_numpy(GOLD)))


def test_label_smoothing_follows_torch():
    logits, targets = _logits(7), torch.from_numpy(GOLD)
    expected = F.cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(_loss(label_smoothing=0.1)(logits, targets), expected)
    multi, gold = _logits(4), torch.from_numpy(MULTI).float()
    smooth = torch.where(gold > 0, 0.95, 0.05)
    expected = F.binary_cross_entropy_with_logits(multi, smooth, reduction="none").mean(-1)
    torch.testing.assert_close(_loss("multi", label_smoothing=0.1)(multi, gold), expected)


# weights


def test_balanced_class_weights_are_inverse_frequencies_with_a_mean_of_one_per_example():
    weight = _loss(class_weight="balanced").class_weight
    assert weight[GOLD].mean() == pytest.approx(1.0)
    counts = np.bincount(GOLD)
    np.testing.assert_allclose(weight.numpy() * counts, (weight.numpy() * counts)[0], rtol=1e-6)


def test_given_class_weights_keep_their_ratios_and_default_to_one():
    weight = _loss(class_weight={"beta": 4.0}).class_weight
    assert weight[1] / weight[0] == pytest.approx(4.0)
    assert weight[2] == weight[0]
    assert weight[GOLD].mean() == pytest.approx(1.0)


def test_a_class_weight_multiplies_the_examples_of_its_label():
    logits, targets = _logits(7), torch.from_numpy(GOLD)
    weighted, plain = _loss(class_weight={"beta": 4.0}), _loss()
    expected = plain(logits, targets) * weighted.class_weight[targets]
    torch.testing.assert_close(weighted(logits, targets), expected)


def test_multi_label_class_weights_multiply_labels():
    logits, targets = _logits(4), torch.from_numpy(MULTI).float()
    loss = _loss("multi", class_weight={"gamma": 3.0})
    assert loss.class_weight.mean() == pytest.approx(1.0)
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(loss(logits, targets), (bce * loss.class_weight).mean(-1))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("balanced", [1 / 3, 3.0, 3.0]),
        (2.5, [2.5, 2.5, 2.5]),
        ({"beta": 7.0}, [1.0, 7.0, 1.0]),
    ],
)
def test_pos_weight_is_negatives_per_positive_or_what_was_given(setting, expected):
    loss = _loss("multi", pos_weight=setting)
    np.testing.assert_allclose(loss.pos_weight, expected, rtol=1e-6)
    logits, targets = _logits(4), torch.from_numpy(MULTI).float()
    theirs = F.binary_cross_entropy_with_logits(
        logits, targets, reduction="none", pos_weight=torch.tensor(expected)
    ).mean(-1)
    torch.testing.assert_close(loss(logits, targets), theirs)


def test_a_label_without_examples_gets_a_finite_weight():
    gold = np.array([0, 0, 1])
    assert torch.isfinite(_loss(gold=gold, class_weight="balanced").class_weight).all()
    none, all_rows = np.zeros((3, 3), np.uint8), np.ones((3, 3), np.uint8)
    for multi in (none, all_rows):
        weight = _loss("multi", gold=multi, pos_weight="balanced").pos_weight
        assert torch.isfinite(weight).all()
        assert (weight > 0).all()


def test_an_unknown_label_names_the_nearest():
    with pytest.raises(ConfigError, match=r"class_weight: unknown label 'bta'; did you mean 'beta'"):
        _loss(class_weight={"bta": 2.0})


def test_pos_weight_is_refused_for_single_label_tasks():
    with pytest.raises(ConfigError, match="pos_weight is for multi-label tasks"):
        _loss(pos_weight="balanced")


# focal


def test_focal_is_cross_entropy_times_a_power_of_the_error():
    logits, targets = _logits(7), torch.from_numpy(GOLD)
    right = logits.softmax(-1)[torch.arange(7), targets]
    expected = (1 - right) ** 3 * -right.log()
    found = _loss(loss="focal", focal_gamma=3.0)(logits, targets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_multi_label_focal_is_per_label():
    logits, targets = _logits(4), torch.from_numpy(MULTI).float()
    p = logits.sigmoid()
    right = torch.where(targets > 0, p, 1 - p)
    expected = ((1 - right) ** 2 * -right.log()).mean(-1)
    torch.testing.assert_close(_loss("multi", loss="focal")(logits, targets), expected, rtol=1e-5, atol=1e-6)


def test_gamma_counts_only_when_focal_is_asked_for():
    assert _loss().gamma == 0
    assert _loss(loss="focal", focal_gamma=5.0).gamma == 5.0


# what it does to probabilities, and to microbatches


@pytest.mark.parametrize(
    ("task", "asked", "shifts"),
    [
        ("single", {}, False),
        ("single", {"label_smoothing": 0.1}, False),
        ("single", {"class_weight": "balanced"}, True),
        ("single", {"loss": "focal"}, True),
        ("multi", {"pos_weight": "balanced"}, True),
        ("multi", {"class_weight": {"beta": 2.0}}, True),
    ],
)
def test_losses_know_whether_they_shift_probabilities(task, asked, shifts):
    assert _loss(task, **asked).shifts_probabilities is shifts


settings_of = st.sampled_from(
    [
        ("single", {}),
        ("single", {"class_weight": "balanced", "label_smoothing": 0.1}),
        ("single", {"loss": "focal", "class_weight": {"beta": 5.0}}),
        ("multi", {}),
        ("multi", {"pos_weight": "balanced", "class_weight": {"alpha": 3.0}}),
        ("multi", {"loss": "focal", "pos_weight": 4.0, "label_smoothing": 0.05}),
    ]
)


@settings(max_examples=40, deadline=None)
@given(settings_of, st.lists(st.integers(0, 12), max_size=6), st.integers(2, 12))
def test_loss_and_gradients_of_a_step_are_the_same_for_any_cut(kind, borders, n):
    """S11: nothing is normalised inside a microbatch."""
    task, asked = kind
    loss = _loss(task, **asked)
    rng = np.random.default_rng(n)
    gold = rng.integers(0, 3, n) if task == "single" else rng.integers(0, 2, (n, 3)).astype(np.float32)
    targets = torch.from_numpy(gold)
    whole, cut = _logits(n).requires_grad_(), _logits(n).requires_grad_()
    total = loss(whole, targets).sum() / n
    total.backward()
    edges = sorted({0, n, *(b for b in borders if b < n)})
    pieces = [loss(cut[a:b], targets[a:b]).sum() / n for a, b in itertools.pairwise(edges)]
    sum(pieces).backward()
    torch.testing.assert_close(sum(pieces), total, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(cut.grad, whole.grad, rtol=1e-6, atol=1e-6)


def test_to_moves_the_weights():
    loss = _loss("multi", class_weight={"beta": 2.0}, pos_weight=2.0).to(torch.device("meta"))
    assert loss.class_weight.device.type == loss.pos_weight.device.type == "meta"
    assert Loss("single").to(torch.device("meta")).class_weight is None
