"""Rows that belong together are drawn together: doubled rows must not look like more evidence."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sortal.comparison.advice import advise
from sortal.data.labels import LabelSpace
from sortal.errors import DataError
from sortal.evaluation.clusters import Clusters
from sortal.evaluation.decision import Decision
from sortal.evaluation.intervals import bootstrap, percentile_interval, resample_counts
from sortal.evaluation.metrics import evaluate
from sortal.evaluation.predictions import Predictions, read_predictions, write_predictions
from sortal.evaluation.significance import compare_pairs
from sortal.evaluation.without_rows import without_rows

TIMES = 4  # that every row is there


def several(values):
    return np.repeat(values, TIMES, axis=0)


def named(n):
    return [f"author {row // TIMES}" for row in range(n * TIMES)]


def answers(seed, n=80, share=0.8, groups=None, gold=None, times=1):
    rng = np.random.default_rng(seed)
    gold = np.random.default_rng(99).integers(0, 3, n) if gold is None else gold
    said = np.where(rng.random(n) < share, gold, (gold + 1) % 3)
    gold, said = (np.repeat(values, times) for values in (gold, said))
    p = np.full((len(gold), 3), 0.1)
    p[np.arange(len(gold)), said] = 0.8
    return Predictions(("a", "b", "c"), "single", [str(i) for i in range(len(gold))], gold, said, p, groups)


def test_rows_without_a_group_stand_alone_whatever_the_others_are_called():
    found = Clusters.of(["1", None, "1", None, "0"])
    assert found.count == 4
    assert found.of_row[0] == found.of_row[2]
    assert len(set(found.of_row.tolist())) == 4
    assert Clusters.of(["a", "b", None, None]) is Clusters.of(None) is Clusters.of([]) is None


def test_rows_of_a_cluster_are_drawn_together_and_counts_sum_to_the_rows():
    clusters = Clusters.of(["a", "b", "a", None, "b", "b"])
    counts = np.concatenate(list(resample_counts(6, 300, 0, 6 * 7, clusters)), axis=1)
    assert counts.shape == (6, 300)
    np.testing.assert_array_equal(counts[0], counts[2])
    np.testing.assert_array_equal(counts[1], counts[4])
    assert (counts[0] != counts[1]).any()
    np.testing.assert_allclose(counts.sum(axis=0), 6)
    whole = np.concatenate(list(resample_counts(6, 300, 0, clusters=clusters)), axis=1)
    np.testing.assert_array_equal(counts, whole)


@pytest.mark.parametrize("task", ["single", "multi"])
def test_rows_written_down_four_times_have_the_intervals_of_one_time(task):
    rng = np.random.default_rng(1)
    space = LabelSpace(("a", "b", "c"), task)
    scores = rng.normal(size=(60, 3))
    gold = rng.integers(0, 3, 60) if task == "single" else (scores + rng.normal(size=(60, 3)) > 0) * 1
    decision = Decision.fit(scores, gold, task, thresholds="none")
    once = evaluate(scores, gold, decision, space)
    four = evaluate(several(scores), several(gold), decision, space, clusters=Clusters.of(named(60)))
    assert four["groups"] == 60
    assert "groups" not in once
    assert "over the 60 groups of rows" in four["interval_method"]
    assert set(four["intervals"]) == set(once["intervals"])
    for name, interval in once["intervals"].items():
        assert four["intervals"][name] == pytest.approx(interval, abs=1e-9), name
    narrow = evaluate(several(scores), several(gold), decision, space)["intervals"]
    assert np.ptp(narrow["f1_macro"]) < 0.6 * np.ptp(four["intervals"]["f1_macro"])


def test_when_all_rows_agree_the_groups_are_counted():
    gold = np.zeros(40, np.int64)
    scores = np.tile([5.0, 0.0], (40, 1))
    space, decision = LabelSpace(("a", "b"), "single"), Decision("single", 1.0, None)
    alone, together = (
        evaluate(scores, gold, decision, space, clusters=clusters)["intervals"]["accuracy"]
        for clusters in (None, Clusters.of([str(row % 5) for row in range(40)]))
    )
    assert together == [pytest.approx(0.025 ** (1 / 5)), 1.0]
    assert together[0] < alone[0]


def test_figures_without_twins_draw_groups_too():
    gold = np.random.default_rng(2).integers(0, 3, 60)
    said = np.where(np.random.default_rng(3).random(60) < 0.7, gold, 0)
    once = without_rows([(gold, said)], 3, "single", np.arange(5))
    four = without_rows(
        [(several(gold), several(said))],
        3,
        "single",
        np.arange(5 * TIMES),
        clusters=Clusters.of(named(60)),
    )
    for name, interval in once["intervals"].items():
        assert four["intervals"][name] == pytest.approx(interval), name


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_rows_written_down_four_times_are_no_more_evidence_in_a_test(metric):
    once = {"x": [answers(0, share=0.85)], "y": [answers(1, share=0.70)]}
    four = {
        name: [answers(seed, share=share, times=TIMES, groups=named(80))]
        for name, seed, share in (("x", 0, 0.85), ("y", 1, 0.70))
    }
    (plain,) = compare_pairs(once, metric)
    (naive,) = compare_pairs({name: [replace(run, groups=None)] for name, (run,) in four.items()}, metric)
    (found,) = compare_pairs(four, metric)
    assert found.interval == pytest.approx(plain.interval)
    assert naive.p < 0.001 < plain.p
    assert (found.n, found.groups, plain.groups) == (80 * TIMES, 80, None)
    assert "over groups" in found.test
    assert found.mcnemar is None
    assert "320 rows of 80 groups" in found.verdict
    if metric == "f1_macro":  # the same test
        assert found.p == plain.p
    else:  # McNemar's beside the randomisation test
        assert found.p == pytest.approx(plain.p, rel=0.5)
    json.dumps(found.to_json(), allow_nan=False)
    assert type(found).from_json(found.to_json()) == found


def test_several_seeds_draw_groups_too():
    def runs(times, groups):
        return {
            name: [answers(seed, share=share, times=times, groups=groups) for seed in seeds]
            for name, share, seeds in (("x", 0.85, (0, 2, 4)), ("y", 0.75, (1, 3, 5)))
        }

    (once,) = compare_pairs(runs(1, None), "accuracy")
    (four,) = compare_pairs(runs(TIMES, named(80)), "accuracy")
    assert four.interval == pytest.approx(once.interval)
    assert four.p == pytest.approx(once.p)
    assert "bootstrap over groups and seeds" in four.test


def test_fewer_than_30_groups_are_too_few_however_many_rows():
    groups = [f"author {row % 29}" for row in range(80)]
    (pair,) = compare_pairs({"x": [answers(0, groups=groups)], "y": [answers(1, groups=groups)]}, "accuracy")
    assert (pair.p, pair.interval, pair.winner) == (None, None, None)
    assert pair.verdict == "29 groups of test rows are too few to compare x and y: at least 30 are needed"
    (said,) = advise({"x": 0.8, "y": 0.7}, {}, [pair], 80, groups=29)
    assert said.startswith("29 groups of test rows are too few to recommend anything")


def test_a_recommendation_names_the_groups():
    groups = [f"author {row % 40}" for row in range(80)]
    runs = {"x": [answers(0, groups=groups)], "y": [answers(1, groups=groups)]}
    pairs = compare_pairs(runs, "accuracy")
    assert "by these 80 rows of 40 groups" in advise({"x": 0.8, "y": 0.79}, {}, pairs, 80, groups=40)[0]


def test_runs_with_other_groups_are_not_compared():
    runs = {"x": [answers(0, groups=["a"] * 80)], "y": [answers(1, groups=["b"] * 80)]}
    with pytest.raises(DataError, match="other groups of rows than 'x'"):
        compare_pairs(runs, "accuracy")


def test_groups_are_kept_with_the_predictions(tmp_path):
    groups = ["a", None, "b", "a"]
    space = LabelSpace(("x", "y"), "single")
    p = np.array([[0.9, 0.1]] * 4)
    zeros = np.zeros(4, np.int64)
    write_predictions(tmp_path / "p.parquet", list("wxyz"), p, zeros, space, gold=zeros, groups=groups)
    assert read_predictions(tmp_path / "p.parquet").groups == groups
    write_predictions(tmp_path / "p.parquet", list("wxyz"), p, zeros, space, gold=zeros)
    assert read_predictions(tmp_path / "p.parquet").groups is None


def test_intervals_of_clustered_rows_cover_what_they_promise():
    """200 test sets of 60 authors with 1 to 12 rows each, who are right with a chance of their own: 0.8 on average."""
    rng = np.random.default_rng(5)
    covered = {"groups": 0, "rows": 0}
    for _ in range(200):
        sizes = rng.integers(1, 13, 60)
        of_row = np.repeat(np.arange(60), sizes)
        right = (rng.random(len(of_row)) < rng.beta(2.4, 0.6, 60)[of_row]).astype(float)
        for name, clusters in (("groups", Clusters(of_row, 60)), ("rows", None)):
            drawn = bootstrap(
                lambda w, right=right: {"accuracy": right @ w / len(right)}, len(right), 400, 0, clusters
            )
            low, high = percentile_interval(drawn["accuracy"])
            covered[name] += low <= 0.8 <= high
    assert covered["groups"] / 200 > 0.90
    assert covered["rows"] / 200 < 0.80
