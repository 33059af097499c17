"""Asymmetric loss, smoothed noes and logit adjustment against written-out references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from sortal.config import build_config
from sortal.errors import ConfigError
from sortal.training.losses import make_loss

NAMES = ("alpha", "beta", "gamma")
GOLD = np.array([0, 0, 0, 0, 1, 1, 2])
MULTI = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=np.uint8)
ASYMMETRIC = {
    "loss": "asymmetric",
    "asymmetric_gamma_positive": 1.0,
    "asymmetric_gamma_negative": 3.0,
    "asymmetric_shift": 0.1,
}
KINDS = [
    ("multi", {"loss": "asymmetric"}),
    ("multi", {**ASYMMETRIC, "class_weight": {"beta": 4.0}}),
    ("multi", {**ASYMMETRIC, "asymmetric_shift": 0.0}),
    ("multi", {"negative_smoothing": 0.01, "pos_weight": 3.0}),
    ("multi", {"logit_adjustment": 1.0}),
    ("multi", {"logit_adjustment": 0.5, "negative_smoothing": 0.02}),
    ("single", {"logit_adjustment": 1.5, "label_smoothing": 0.1}),
]


def _logits(n, seed=0, spread=2.0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) * spread


def _loss(task="multi", gold=None, **asked):
    gold = (GOLD if task == "single" else MULTI) if gold is None else gold
    return make_loss(build_config(asked), task, NAMES, gold)


def _reference(task, asked, logits, gold):
    """The loss of every row in float64, from the definitions, label by label."""
    z, n = logits.double().numpy(), len(GOLD if task == "single" else MULTI)
    counts = np.bincount(GOLD, minlength=3) if task == "single" else MULTI.sum(0)
    tau = asked.get("logit_adjustment", 0.0)
    smoothing = asked.get("label_smoothing", 0.0)
    weights = np.array([asked.get("class_weight", {}).get(name, 1.0) for name in NAMES])
    weights = weights / weights.mean()
    rows = []
    for scores, right in zip(z, gold, strict=True):
        total = 0.0
        if task == "single":
            scores = scores + tau * np.log(counts / n)
            log_p = scores - np.log(np.exp(scores).sum())
            target = np.full(3, smoothing / 3)
            target[right] += 1 - smoothing
            rows.append(-(target * log_p).sum())
            continue
        for k in range(3):
            prior = np.log(counts[k] / (n - counts[k]))
            p = 1 / (1 + np.exp(-(scores[k] + tau * prior)))
            if asked.get("loss") == "asymmetric":
                shift = asked.get("asymmetric_shift", 0.05)
                q = max(p - shift, 0.0)
                if right[k]:
                    value = -((1 - p) ** asked.get("asymmetric_gamma_positive", 0.0)) * np.log(p)
                else:
                    value = -(q ** asked.get("asymmetric_gamma_negative", 4.0)) * np.log(1 - q)
            else:
                target = 1.0 if right[k] else asked.get("negative_smoothing", 0.0)
                positive = asked.get("pos_weight", 1.0)
                value = -(positive * target * np.log(p) + (1 - target) * np.log(1 - p))
            total += weights[k] * value
        rows.append(total / 3)
    return np.array(rows)


@pytest.mark.parametrize(("task", "asked"), KINDS)
def test_each_loss_is_what_its_definition_says(task, asked):
    gold = np.array([0, 1, 2, 1]) if task == "single" else MULTI
    found = _loss(task, **asked)(_logits(4), torch.from_numpy(gold))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), _reference(task, asked, _logits(4), gold), rtol=2e-5, atol=1e-7)


def test_with_equal_gammas_and_no_shift_it_is_the_focal_loss():
    equal = {
        **ASYMMETRIC,
        "asymmetric_gamma_positive": 2.0,
        "asymmetric_gamma_negative": 2.0,
        "asymmetric_shift": 0.0,
    }
    targets = torch.from_numpy(MULTI)
    torch.testing.assert_close(_loss(**equal)(_logits(4), targets), _loss(loss="focal")(_logits(4), targets))


def test_a_no_below_the_shift_costs_nothing_and_moves_nothing():
    logits = torch.tensor([[-4.0, 0.5, 2.0]], requires_grad=True)  # sigmoid(-4) = 0.018 < 0.05
    _loss(loss="asymmetric")(logits, torch.zeros(1, 3)).sum().backward()
    assert logits.grad[0, 0] == 0
    assert (logits.grad[0, 1:] > 0).all()


def test_only_a_no_is_smoothed():
    logits = torch.full((1, 3), 8.0)
    yes = torch.ones(1, 3)
    torch.testing.assert_close(_loss(negative_smoothing=0.1)(logits, yes), _loss()(logits, yes))
    assert _loss(negative_smoothing=0.1)(logits, 0 * yes) < _loss()(logits, 0 * yes)


def test_adjusted_scores_forget_how_frequent_a_label_is():
    """Menon et al.: a classifier that knows nothing but frequencies has equal scores under tau = 1."""
    scores = torch.zeros(3, requires_grad=True)
    loss = _loss("single", logit_adjustment=1.0)
    step = loss(scores.expand(len(GOLD), 3), torch.from_numpy(GOLD)).mean()
    step.backward()
    torch.testing.assert_close(scores.grad, torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("task", "asked"), [*KINDS, ("multi", {"loss": "focal", "focal_gamma": 0.5}), ("single", {"loss": "focal", "focal_gamma": 0.5}), ("multi", {**ASYMMETRIC, "asymmetric_gamma_positive": 0.5, "asymmetric_gamma_negative": 0.5})])  # fmt: skip
def test_gradients_are_finite_in_bf16_at_extreme_logits(task, asked):
    values = [-1e30, -1e4, -120.0, -90.0, -17.0, -2.944, 0.0, 17.0, 90.0, 120.0, 1e4, 1e30]
    logits = torch.tensor([[v, -v, 0.0] for v in values], dtype=torch.bfloat16, requires_grad=True)
    for label in range(3):
        gold = (
            np.full(len(values), label)
            if task == "single"
            else np.eye(3, dtype=np.uint8)[[label] * len(values)]
        )
        logits.grad = None
        losses = _loss(task, **asked)(logits, torch.from_numpy(gold))
        losses.sum().backward()
        assert torch.isfinite(losses).all()
        assert torch.isfinite(logits.grad).all()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 12), max_size=6), st.integers(2, 12))
def test_loss_and_gradients_of_a_step_are_the_same_for_any_cut(kind, borders, n):
    """S11: nothing is normalised inside a microbatch."""
    task, asked = kind
    loss, rng = _loss(task, **asked), np.random.default_rng(n)
    gold = rng.integers(0, 3, n) if task == "single" else rng.integers(0, 2, (n, 3))
    targets = torch.from_numpy(gold)
    whole, cut = _logits(n).requires_grad_(), _logits(n).requires_grad_()
    total = loss(whole, targets).sum() / n
    total.backward()
    edges = sorted({0, n, *(b for b in borders if b < n)})
    pieces = [loss(cut[a:b], targets[a:b]).sum() / n for a, b in itertools.pairwise(edges)]
    sum(pieces).backward()
    torch.testing.assert_close(sum(pieces), total, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(cut.grad, whole.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("task", "asked"), KINDS)
def test_all_of_them_shift_probabilities(task, asked):
    assert _loss(task, **asked).shifts_probabilities


@pytest.mark.parametrize(
    "asked", [{"pos_weight": "balanced"}, {"class_weight": "balanced"}, {"logit_adjustment": 1.0}]
)
def test_weights_of_sparse_gold_are_those_of_dense_gold(asked):
    sparse, dense = _loss(gold=csr_array(MULTI), **asked), _loss(**asked)
    for name in ("pos_weight", "class_weight", "adjustment"):
        if (weights := getattr(dense, name)) is not None:
            assert torch.equal(weights, getattr(sparse, name))


def test_a_label_without_rows_has_a_finite_adjustment():
    for gold in (np.zeros((3, 3), np.uint8), np.ones((3, 3), np.uint8)):
        assert torch.isfinite(_loss(gold=gold, logit_adjustment=2.0).adjustment).all()


def test_to_moves_the_adjustment():
    assert _loss(logit_adjustment=1.0).to(torch.device("meta")).adjustment.device.type == "meta"


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        ("asymmetric_shift has no effect", {"asymmetric_shift": 0.2}),
        ("loss 'asymmetric' and label_smoothing", {"loss": "asymmetric", "label_smoothing": 0.1}),
        ("loss 'asymmetric' and pos_weight", {"loss": "asymmetric", "pos_weight": "balanced"}),
        ("negative_smoothing and label_smoothing", {"negative_smoothing": 0.1, "label_smoothing": 0.1}),
        ("negative_smoothing is for the plain loss", {"negative_smoothing": 0.1, "loss": "focal"}),
        ("logit_adjustment and class_weight", {"logit_adjustment": 1.0, "class_weight": "balanced"}),
        ("logit_adjustment and pos_weight", {"logit_adjustment": 1.0, "pos_weight": 2.0}),
        ("logit_adjustment is for the plain loss", {"logit_adjustment": 1.0, "loss": "asymmetric"}),
        ("is for multi-label tasks", {"negative_smoothing": 0.1, "task": "single"}),
        ("is for multi-label tasks", {"loss": "asymmetric", "task": "single"}),
        ("logit_adjustment is for method", {"logit_adjustment": 1.0, "method": "probe"}),
        ("logit_adjustment is for method", {"logit_adjustment": 1.0, "method": "tfidf"}),
    ],
)
def test_what_cannot_be_combined_is_refused(message, asked):
    with pytest.raises(ConfigError, match=message):
        build_config(asked)


@pytest.mark.parametrize("asked", [{"loss": "asymmetric"}, {"negative_smoothing": 0.1}])
def test_losses_of_several_labels_are_refused_once_the_task_is_known_to_be_single(asked):
    with pytest.raises(ConfigError, match="is for multi-label tasks"):
        _loss("single", **asked)
