from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from sortal.methods.logistic import Dense, Standard, fit_logistic

CS = (0.03, 1.0)


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(300, 12)).astype(np.float32))


@pytest.fixture(scope="module")
def single(x):
    rng = np.random.default_rng(1)
    return (x.numpy() @ rng.normal(size=(12, 4)) + rng.normal(size=(300, 4))).argmax(1)


@pytest.fixture(scope="module")
def multi(x):
    rng = np.random.default_rng(2)
    return (x.numpy() @ rng.normal(size=(12, 5)) + rng.normal(size=(300, 5)) > 1).astype(np.int64)


def test_softmax_regression_is_scikit_learns(x, single):
    for c, dense in zip(CS, fit_logistic(x, single, 4, CS, tolerance=1e-6), strict=True):
        model = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x.numpy(), single)
        # The bias of a softmax is free up to a constant over labels.
        ours, theirs = dense.score(x).numpy(), model.decision_function(x.numpy())
        ours, theirs = (s - s.mean(1, keepdims=True) for s in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, atol=5e-3)


def test_one_vs_rest_is_scikit_learns_label_by_label(x, multi):
    for c, dense in zip(CS, fit_logistic(x, multi, 5, CS, tolerance=1e-6), strict=True):
        for label in range(5):
            model = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x.numpy(), multi[:, label])
            expected = model.decision_function(x.numpy())
            np.testing.assert_allclose(dense.score(x)[:, label].numpy(), expected, atol=5e-3)


def test_the_usual_tolerance_decides_like_the_exact_fit(x, single):
    (usual,), (exact,) = (list(fit_logistic(x, single, 4, (0.3,), t)) for t in (1e-4, 1e-7))
    assert torch.equal(usual.score(x).argmax(1), exact.score(x).argmax(1))


@pytest.mark.parametrize("task", ["single", "multi"])
def test_a_label_without_rows_scores_low_and_finite(x, single, multi, task):
    gold = single if task == "single" else np.pad(multi[:, :4], ((0, 0), (0, 1)))
    (dense,) = fit_logistic(x, gold, 5, (0.3,))
    scores = dense.score(x)
    assert torch.isfinite(scores).all()
    assert (scores[:, 4] < scores[:, :4].max(1).values).all()
    assert scores[:, 4].max() < 0


def test_standard_features_have_mean_zero_and_variance_one_and_unfold_exactly(x):
    features = torch.cat([x * 50 + 7, torch.full((300, 1), 3.25)], 1)  # the last one never varies
    standard = Standard.of(features)
    applied = standard.apply(features)
    torch.testing.assert_close(applied.mean(0), torch.zeros(13), atol=1e-4, rtol=0)
    torch.testing.assert_close(applied.std(0, correction=0)[:12], torch.ones(12), atol=1e-3, rtol=0)
    assert not applied[:, 12].any()
    dense = Dense(torch.randn(3, 13), torch.randn(3))
    torch.testing.assert_close(
        standard.unfold(dense).score(features), dense.score(applied), atol=1e-3, rtol=1e-4
    )
