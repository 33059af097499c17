"""The paired methods by brute force and by simulation; every simulated truth is known in closed form."""

import numpy as np
import pytest
from scipy.stats import norm

from sortal.evaluation.intervals import percentile_interval, resample_counts
from sortal.evaluation.label_metrics import LabelMetrics
from sortal.evaluation.mcnemar import mid_p
from sortal.evaluation.paired import (
    _exchanges,
    difference_p,
    randomisation_p,
    resample_runs,
    resampled_difference,
    run_values,
    seed_variance,
)

UNIFORM = np.full(10, 0.1)
ZIPF = 1 / np.arange(1, 78) / (1 / np.arange(1, 78)).sum()


def single_label(rng, n, prior, accuracies, easy=0.5):
    """Gold and one prediction per vector of accuracies ``[L]``; rows are easy or hard for all alike."""
    gold = rng.choice(len(prior), size=n, p=prior)
    shared = rng.normal(size=n)
    predicted = []
    for accuracy in accuracies:
        noise = easy**0.5 * shared + (1 - easy) ** 0.5 * rng.normal(size=n)
        right = noise < norm.ppf(accuracy)[gold]
        predicted.append(np.where(right, gold, (gold + rng.integers(1, len(prior), size=n)) % len(prior)))
    return [LabelMetrics.build(gold, p, len(prior), "single") for p in predicted]


def true_single_label(prior, accuracy):
    wrong = prior * (1 - accuracy)
    predicted = prior * accuracy + (wrong.sum() - wrong) / (len(prior) - 1)
    return {
        "accuracy": (prior * accuracy).sum(),
        "f1_macro": (2 * prior * accuracy / (prior + predicted)).mean(),
    }


def multi_label(rng, n, prior, recalls, false_alarms=0.02):
    gold = (rng.random((n, len(prior))) < prior).astype(np.uint8)
    shared = rng.normal(size=gold.shape)
    result = []
    for recall in recalls:
        noise = (shared + rng.normal(size=gold.shape)) / 2**0.5
        given = np.where(gold == 1, noise < norm.ppf(recall), noise > norm.ppf(1 - false_alarms))
        result.append(LabelMetrics.build(gold, given.astype(np.uint8), len(prior), "multi"))
    return result


def true_multi_label(prior, recall, false_alarms=0.02):
    hits, predicted = prior * recall, prior * recall + (1 - prior) * false_alarms
    return {
        "f1_micro": 2 * hits.sum() / (prior + predicted).sum(),
        "f1_macro": (2 * hits / (prior + predicted)).mean(),
    }


def test_the_mean_metric_of_runs_is_paired_over_the_same_resamples():
    a = single_label(np.random.default_rng(0), 60, UNIFORM, [UNIFORM * 8, UNIFORM * 6])
    values = resample_runs(a, "f1_macro", 50, seed=3)
    counts = np.concatenate(list(resample_counts(60, 50, seed=3)), axis=1)
    np.testing.assert_array_equal(values, [run.resampled(counts)["f1_macro"] for run in a])
    points = run_values(a, "f1_macro")
    assert points.tolist() == [run.values(run.sums(np.ones((60, 1))))["f1_macro"][0] for run in a]
    one, other = (points[:1], values[:1]), (points[1:], values[1:])
    np.testing.assert_array_equal(resampled_difference(one, other, 0), values[0] - values[1])


@pytest.mark.parametrize("task", ["single", "multi"])
def test_the_randomisation_test_equals_brute_force(task):
    rng = np.random.default_rng(1)
    n, n_labels, rounds = 40, 5, 120
    shape = n if task == "single" else (n, n_labels)
    top = n_labels if task == "single" else 2
    gold, *answers = (rng.integers(0, top, shape) for _ in range(5))
    # five runs: two of the first system, three of the second, so that the shorter one is repeated
    answers.append(np.where(np.arange(n).reshape(-1, *[1] * (gold.ndim - 1)) % 5, answers[0], gold))
    if task == "multi":
        gold, answers = gold.astype(np.uint8), [x.astype(np.uint8) for x in answers]
    a, b = answers[:2], answers[2:]

    def mean(runs):
        return np.mean(
            [run_values([LabelMetrics.build(gold, x, n_labels, task)], "f1_macro")[0] for x in runs]
        )

    pairs = [(a[k % 2], b[k % 3]) for k in range(6)]
    built = [[LabelMetrics.build(gold, x, n_labels, task) for x in runs] for runs in (a, b)]
    differ = np.any([(x != y).reshape(n, -1).any(axis=1) for x, y in pairs], axis=0)
    coins = np.zeros((n, rounds), bool)
    coins[differ] = np.concatenate(list(_exchanges(int(differ.sum()), rounds, 7, 50)), axis=1).astype(bool)
    observed, reached = abs(mean(a) - mean(b)), 0
    for r in range(rounds):
        coin = coins[:, r].reshape(-1, *[1] * (gold.ndim - 1))
        swapped = [(np.where(coin, y, x), np.where(coin, x, y)) for x, y in pairs]
        reached += abs(mean([x for x, _ in swapped]) - mean([y for _, y in swapped])) >= observed - 1e-12
    assert 0 < reached < rounds
    assert randomisation_p(*built, "f1_macro", rounds, 7) == (reached + 1) / (rounds + 1)


def test_exchanges_are_fair_and_do_not_depend_on_the_block_size():
    whole = np.concatenate(list(_exchanges(70, 500, 0, 500)), axis=1)
    cut = np.concatenate(list(_exchanges(70, 500, 0, 10)), axis=1)
    np.testing.assert_array_equal(whole, cut)
    assert whole.mean() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(whole)[np.triu_indices(70, 1)]).max() < 0.25


def test_for_accuracy_the_randomisation_test_is_the_exact_mcnemar_test():
    gold = np.zeros(100, int)
    a, b = gold.copy(), gold.copy()
    a[:7], b[7:30] = 1, 1
    runs = [LabelMetrics.build(gold, x, 2, "single") for x in (a, b)]
    p = randomisation_p(runs[:1], runs[1:], "accuracy", 40_000, 0)
    exact_above_mid = p - mid_p(23, 7)
    assert p == pytest.approx(0.005223, abs=0.0012)  # scipy.stats.binomtest(7, 30).pvalue
    assert exact_above_mid > 0


def test_equal_answers_are_no_evidence():
    runs = single_label(np.random.default_rng(0), 50, UNIFORM, [UNIFORM * 8])
    assert randomisation_p(runs, runs, "f1_macro", 100, 0) == 1
    assert difference_p((np.zeros(1), np.zeros((1, 9))), (np.zeros(1), np.zeros((1, 9)))) == 1


def test_p_of_a_difference_agrees_with_its_draws():
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.01, 0.02, 0.05):
        a = np.array([0.78, 0.80, 0.82]), 0.8 + shift + 0.01 * rng.normal(size=(3, 4000))
        b = np.array([0.79, 0.80, 0.81, 0.80]), 0.8 + 0.01 * rng.normal(size=(4, 4000))
        draws = np.concatenate([resampled_difference(a, b, seed) for seed in range(50)])
        far = min((draws <= 0).mean(), (draws >= 0).mean())
        assert difference_p(a, b) == pytest.approx(2 * far, abs=0.004)


def test_p_of_a_difference_that_seeds_add_nothing_to_is_that_of_the_rows():
    rng = np.random.default_rng(0)
    nothing = np.zeros(1), np.zeros((1, 40_000))
    for shift in (0.0, 1.0, 1.9, 2.1, -3.0):
        rows = shift + rng.normal(size=(1, 40_000))
        p = difference_p((np.zeros(1), rows), nothing)
        assert p == pytest.approx(2 * norm.sf(abs(shift)), abs=0.01)
        low, high = percentile_interval(rows[0])
        assert (low <= 0 <= high) == (p > 0.05)
    assert difference_p((np.ones(1), np.ones((1, 40_000))), nothing) == 0


@pytest.mark.parametrize(
    ("task", "n", "prior", "skills", "bounds"),
    [
        ("single", 200, UNIFORM, (0.86, 0.80), {"accuracy": (0.93, 0.97), "f1_macro": (0.93, 0.97)}),
        ("multi", 200, UNIFORM, (0.8, 0.7), {"f1_micro": (0.93, 0.97), "f1_macro": (0.93, 0.97)}),
        # 77 labels, two thirds of them with fewer than 2 rows to expect: macro-F1 itself is off, as documented
        ("single", 300, ZIPF, (0.88, 0.80), {"accuracy": (0.93, 0.97), "f1_macro": (0.82, 0.93)}),
    ],
    ids=["single", "multi", "rare labels"],
)
def test_coverage_of_95_percent_intervals_of_a_difference(task, n, prior, skills, bounds):
    rng = np.random.default_rng(0)
    simulate, truth = (
        (single_label, true_single_label) if task == "single" else (multi_label, true_multi_label)
    )
    skills = [np.full(len(prior), skill) for skill in skills]
    true = [truth(prior, skill) for skill in skills]
    covered, repeats = dict.fromkeys(bounds, 0), 400
    # One set of resamples serves all simulated data sets: it does not depend on their rows.
    counts = np.concatenate(list(resample_counts(n, 400, seed=0)), axis=1)
    for _ in range(repeats):
        a, b = (run.resampled(counts) for run in simulate(rng, n, prior, skills))
        for metric in bounds:
            draws = resampled_difference((np.zeros(1), a[metric][None]), (np.zeros(1), b[metric][None]), 0)
            low, high = percentile_interval(draws)
            covered[metric] += low <= true[0][metric] - true[1][metric] <= high
    for metric, (least, most) in bounds.items():
        assert least <= covered[metric] / repeats <= most, (metric, covered[metric] / repeats)


@pytest.mark.parametrize(
    ("task", "n", "prior"),
    [("single", 200, UNIFORM), ("single", 200, ZIPF), ("multi", 100, UNIFORM)],
    ids=["single", "rare labels", "multi"],
)
def test_the_randomisation_test_names_few_false_winners(task, n, prior):
    rng = np.random.default_rng(1)
    simulate = single_label if task == "single" else multi_label
    skill, repeats = np.full(len(prior), 0.8), 500
    metrics = ("accuracy", "f1_macro") if task == "single" else ("f1_micro", "f1_macro")
    false = dict.fromkeys(metrics, 0)
    for seed in range(repeats):
        a, b = simulate(rng, n, prior, [skill, skill])
        for metric in metrics:
            false[metric] += randomisation_p([a], [b], metric, 199, seed) <= 0.05
    for metric in metrics:
        assert 0.02 <= false[metric] / repeats <= 0.06, (metric, false[metric] / repeats)


def right_rows(rng, shared, mean, spread, n_runs):
    """0/1 ``[n_runs, n]``: whether each run has the row right; the runs' skill varies on the probit scale."""
    habit = rng.normal(size=len(shared))
    skill = mean + spread * rng.normal(size=(n_runs, 1))
    noise = 0.6 * shared + 0.5 * habit + 0.39**0.5 * rng.normal(size=(n_runs, len(shared)))
    return (noise < skill).astype(np.float64)


# Spread of the runs: none; about as large as the chance of the rows; much larger; one method only.
@pytest.mark.parametrize("spreads", [(0, 0), (0.1, 0.1), (0.3, 0.3), (0.15, 0)], ids=str)
@pytest.mark.parametrize(("n_runs", "least"), [(2, 0.90), (3, 0.93), (5, 0.93)])
def test_with_several_runs_intervals_and_tests_hold_for_new_rows_and_new_seeds(n_runs, least, spreads):
    rng, n, repeats = np.random.default_rng(n_runs), 400, 1000
    counts = np.concatenate(list(resample_counts(n, 500, seed=0)), axis=1)
    means = [norm.ppf(0.85) * (1 + spread**2) ** 0.5 for spread in spreads]  # the same true accuracy
    covered = false = 0
    for seed in range(repeats):
        shared = rng.normal(size=n)
        rows = [right_rows(rng, shared, *args, n_runs) for args in zip(means, spreads, strict=True)]
        draws = resampled_difference(*((right.mean(axis=1), right @ counts / n) for right in rows), seed)
        low, high = percentile_interval(draws)
        covered += low <= 0 <= high
        if difference_p(*((right.mean(axis=1), right @ counts / n) for right in rows)) <= 0.05:
            runs = [
                [LabelMetrics.build(np.ones(n, int), row.astype(int), 2, "single") for row in right]
                for right in rows
            ]
            false += randomisation_p(*runs, "accuracy", 199, seed) <= 0.05
    assert least <= covered / repeats <= 0.98, covered / repeats
    assert false / repeats <= (0.06 if n_runs > 2 else 0.08), false / repeats


def test_seed_variance_leaves_out_what_the_rows_explain():
    rng, n = np.random.default_rng(0), 400
    counts = np.concatenate(list(resample_counts(n, 200, seed=0)), axis=1)
    true = norm.cdf(norm.ppf(0.85) + 0.3 * rng.normal(size=100_000)).var()
    for spread, expected in ((0.0, 0.0), (0.3, true)):
        found = []
        for _ in range(400):
            right = right_rows(rng, rng.normal(size=n), norm.ppf(0.85), spread, 5)
            found.append(seed_variance(right.mean(axis=1), right @ counts / n))
        assert np.mean(found) == pytest.approx(expected, abs=0.01 * true, rel=0.15)


def test_a_system_with_one_run_adds_no_seed_noise():
    rng = np.random.default_rng(0)
    single = (np.array([0.8]), 0.8 + 0.001 * rng.normal(size=(1, 2000)))
    several = (np.array([0.7, 0.8, 0.9]), 0.8 + 0.001 * rng.normal(size=(3, 2000)))
    assert resampled_difference(single, single, 0).tolist() == [0.0] * 2000
    assert resampled_difference(several, single, 0).std() > 20 * resampled_difference(single, single, 0).std()
    middle = np.quantile(resampled_difference(several, single, 0), [0.25, 0.75])
    assert np.diff(middle) == pytest.approx(
        2 * 0.8165 * (0.01 / 3) ** 0.5, rel=0.1
    )  # quartile of t with 2 df
