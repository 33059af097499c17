import numpy as np
import pytest
from scipy.stats import beta

from sortal.evaluation.intervals import (
    basic_interval,
    bootstrap,
    percentile_interval,
    resample_counts,
    unanimous_interval,
)


def test_each_resample_draws_n_rows_with_replacement():
    counts = np.concatenate(list(resample_counts(20, 400, seed=0)), axis=1)
    assert counts.shape == (20, 400)
    assert (counts.sum(axis=0) == 20).all()
    assert counts.mean(axis=1) == pytest.approx(np.ones(20), abs=0.25)
    assert counts.var() == pytest.approx(1 - 1 / 20, abs=0.1)


def test_resamples_depend_on_the_seed_but_not_on_the_block_size():
    whole = np.concatenate(list(resample_counts(37, 50, seed=4)), axis=1)
    cut = np.concatenate(list(resample_counts(37, 50, seed=4, block_elements=37 * 7)), axis=1)
    np.testing.assert_array_equal(whole, cut)
    assert (np.concatenate(list(resample_counts(37, 50, seed=5)), axis=1) != whole).any()


def test_blocks_are_bounded():
    assert {block.shape for block in resample_counts(1000, 10, seed=0, block_elements=3000)} == {
        (1000, 3),
        (1000, 1),
    }
    assert {block.shape for block in resample_counts(1000, 3, seed=0, block_elements=10)} == {(1000, 1)}


def test_nominal_95_percent_accuracy_intervals_cover_the_truth():
    rng = np.random.default_rng(0)
    truth, covered, repeats = 0.85, 0, 400
    for seed in range(repeats):
        right = (rng.random(200) < truth).astype(float)
        values = bootstrap(lambda w, right=right: {"accuracy": right @ w / 200}, 200, 400, seed)["accuracy"]
        low, high = percentile_interval(values)
        covered += low <= truth <= high
    assert 0.92 <= covered / repeats <= 0.98


def test_undefined_resamples_are_left_out():
    assert percentile_interval(np.array([np.nan, 0.5, 0.5])) == [0.5, 0.5]
    assert percentile_interval(np.array([np.nan])) is None
    assert basic_interval(np.array([np.nan]), 0.1) is None


def test_the_basic_interval_mirrors_and_holds_the_estimate():
    assert basic_interval(np.array([0.4, 0.4]), 0.3) == pytest.approx([0.2, 0.3])
    assert basic_interval(np.array([0.1, 0.1]), 0.3) == pytest.approx([0.3, 0.5])
    assert basic_interval(np.array([0.9, 0.9]), 0.3) == pytest.approx([0.0, 0.3])


@pytest.mark.parametrize("n", [1, 7, 500])
def test_unanimous_rows_do_not_claim_certainty(n):
    assert unanimous_interval(True, n) == pytest.approx([beta.ppf(0.025, n, 1), 1])
    assert unanimous_interval(False, n) == pytest.approx([0, beta.ppf(0.975, 1, n)])
