import json
from dataclasses import replace

import numpy as np
import pytest

from sortal.errors import ConfigError, DataError
from sortal.evaluation.comparison import PairComparison
from sortal.evaluation.mcnemar import mcnemar
from sortal.evaluation.predictions import Predictions, read_predictions, write_predictions
from sortal.evaluation.significance import compare_pairs

FAST = {"n_resamples": 400, "n_rounds": 999}


def run(predicted, gold, n_labels=4, task="single", ids=None):
    names = tuple(f"label {k}" for k in range(n_labels))
    ids = [str(k) for k in range(len(predicted))] if ids is None else ids
    return Predictions(names, task, ids, gold, predicted, np.zeros((len(predicted), n_labels)))


def single(seed, n, accuracies, n_labels=4):
    """Runs with exactly the given share of wrong rows, at random."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, n_labels, n)
    runs = []
    for accuracy in accuracies:
        wrong = rng.permutation(n) >= round(accuracy * n)
        runs.append(run(np.where(wrong, (gold + 1) % n_labels, gold), gold, n_labels))
    return runs


def test_accuracy_of_one_run_each_is_mcnemars_test_over_all_pairs():
    good, fair, same = single(0, 600, [0.95, 0.85, 0.85])
    pairs = compare_pairs({"good": [good], "fair": [fair], "same": [same]}, "accuracy", **FAST)
    assert [(pair.a, pair.b) for pair in pairs] == [("good", "fair"), ("good", "same"), ("fair", "same")]
    first, _, last = pairs
    expected = mcnemar(good.predicted == good.gold, fair.predicted == fair.gold)
    assert (first.mcnemar, first.p) == (expected, expected.p)
    assert first.difference == pytest.approx(0.10)
    assert first.interval[0] < first.difference < first.interval[1]
    assert (first.value_a, first.value_b, first.n) == (pytest.approx(0.95), pytest.approx(0.85), 600)
    assert first.winner == "good"
    assert first.verdict.startswith("good is better than fair: +10.0 points of accuracy (95 % interval +")
    assert last.winner is None
    assert last.verdict.startswith("no winner between fair and same: +0.0 points")
    assert f"{100 * first.smallest_difference:.1f} points cannot be told apart" in first.power
    assert "one training run of each" in first.notes[0]
    json.dumps([pair.to_json() for pair in pairs], allow_nan=False)
    assert pairs[0].to_json()["winner"] == "good"


def test_the_second_method_can_win():
    fair, good = single(0, 600, [0.8, 0.95])
    (pair,) = compare_pairs({"fair": [fair], "good": [good]}, "accuracy", **FAST)
    assert (pair.difference, pair.winner) == (pytest.approx(-0.15), "good")
    assert pair.verdict.startswith("good is better than fair: +15.0 points of accuracy (95 % interval +1")


def test_a_winner_must_survive_holms_correction():
    gold = np.zeros(100, int)
    wrong = {"a": [], "b": list(range(8)), "c": [*range(8), 50, 51]}
    runs = {name: [run(np.isin(np.arange(100), rows).astype(int), gold)] for name, rows in wrong.items()}
    p = {(x.a, x.b): x for x in compare_pairs(runs, "accuracy", **FAST)}
    assert p["a", "b"].p == p["a", "b"].p_holm / 2 < 0.05  # 0.0039 × 2
    assert p["b", "c"].p_holm == p["b", "c"].p > 0.05
    (alone,) = compare_pairs({k: runs[k] for k in ("b", "c")}, "accuracy", **FAST)
    assert alone.winner is None
    # the same p below 0.05 wins alone, not as the best of ten pairs
    rows = {"a": 0, "b": 6, "c": 5, "d": 5, "e": 5}
    many = {name: [run((np.arange(100) < k).astype(int), gold)] for name, k in rows.items()}
    best = compare_pairs(many, "accuracy", **FAST)[0]
    assert best.p < 0.05 < best.p_holm
    assert best.winner is None
    assert compare_pairs({k: many[k] for k in ("a", "b")}, "accuracy", **FAST)[0].winner == "a"


@pytest.mark.parametrize("metric", ["f1_micro", "f1_macro", "f1_samples", "subset_accuracy"])
def test_multi_label_methods(metric):
    rng = np.random.default_rng(0)
    gold = (rng.random((300, 5)) < 0.3).astype(np.uint8)
    good, poor = (run(gold ^ (rng.random(gold.shape) < e), gold, 5, "multi") for e in (0.03, 0.12))
    (pair,) = compare_pairs({"good": [good], "poor": [poor]}, metric, **FAST)
    assert pair.winner == "good"
    assert (pair.mcnemar is None) == (metric != "subset_accuracy")
    assert f"a difference in {metric} under" in pair.power
    assert 0 < pair.interval[0] < pair.difference < pair.interval[1]


def test_seeds_widen_the_interval_and_can_undo_a_winner():
    steady, *_ = single(0, 2000, [0.90])
    rng = np.random.default_rng(1)
    gold = steady.gold

    def with_errors(n_wrong):
        wrong = np.isin(np.arange(2000), rng.permutation(2000)[:n_wrong])
        return run(np.where(wrong, (gold + 1) % 4, gold), gold)

    a = [with_errors(k) for k in (60, 160, 260)]  # 0.97, 0.92, 0.87: mean 0.92
    b = [with_errors(k) for k in (220, 220, 220)]  # 0.89
    (pair,) = compare_pairs({"wild": a, "calm": b}, "accuracy", **FAST)
    (one,) = compare_pairs({"wild": a[:1], "calm": b[:1]}, "accuracy", **FAST)
    assert pair.difference == pytest.approx(0.03)
    assert one.winner == "wild"
    assert pair.winner is None
    assert np.diff(pair.interval) > 3 * np.diff(one.interval)
    assert "bootstrap over rows and seeds" in pair.test
    assert pair.mcnemar is None
    assert pair.notes == ()
    (tight,) = compare_pairs({"calm": b, "worse": [with_errors(400) for _ in b]}, "accuracy", **FAST)
    assert tight.winner == "calm"


def test_what_few_runs_cannot_tell_is_said():
    runs = single(0, 200, [0.9, 0.9, 0.8])
    (pair,) = compare_pairs({"two": runs[:2], "one": runs[2:]}, "accuracy", **FAST)
    assert any("one training run of one: how much its seed matters cannot" in note for note in pair.notes)
    assert any("two training runs of two say little" in note for note in pair.notes)
    (pair,) = compare_pairs({"two": runs[:2], "one": runs[2:]}, "accuracy", seedless=("one",), **FAST)
    assert not any("of one" in note for note in pair.notes)


def test_few_rows_are_refused_in_clear_words():
    a, b = single(0, 29, [1.0, 0.0])
    (pair,) = compare_pairs({"a": [a], "b": [b]}, "accuracy", **FAST)
    assert pair.verdict == "29 test rows are too few to compare a and b: at least 30 are needed"
    assert (pair.p, pair.p_holm, pair.interval, pair.winner, pair.mcnemar) == (None, None, None, None, None)
    assert (
        compare_pairs({"a": single(0, 30, [1.0])[:1], "b": single(0, 30, [0.0])[:1]}, "accuracy")[0].winner
        == "a"
    )


def test_equal_answers_do_not_claim_certainty():
    a, _ = single(0, 100, [0.9, 0.9])
    (pair,) = compare_pairs({"a": [a], "b": [a]}, "accuracy", **FAST)
    assert (pair.p, pair.difference) == (1.0, 0.0)
    assert pair.interval == pytest.approx([-0.036, 0.036], abs=0.001)
    (pair,) = compare_pairs({"a": [a], "b": [a]}, "f1_macro", **FAST)
    assert (pair.p, pair.interval, pair.winner) == (1.0, None, None)
    assert any("no interval" in note for note in pair.notes)


def test_rare_labels_are_named_beside_macro_f1():
    gold = np.repeat([0, 1, 2, 3], [50, 40, 4, 0])
    a, b = run(gold, gold), run(np.roll(gold, 3), gold)
    (pair,) = compare_pairs({"a": [a], "b": [b]}, "f1_macro", **FAST)
    assert any(note.startswith("2 of 4 labels have fewer than 5 test rows") for note in pair.notes)


def test_the_same_seed_gives_the_same_result():
    a, b = single(0, 80, [0.9, 0.8])
    first, second, other = (
        compare_pairs({"a": [a, b], "b": [b]}, "f1_macro", seed=s, **FAST)[0].to_json() for s in (1, 1, 2)
    )
    assert first == second != other


def test_predictions_files_are_compared_as_they_are_written(tmp_path):
    a, b = single(0, 60, [0.95, 0.6])
    for name, x in (("a", a), ("b", b)):
        write_predictions(tmp_path / name, x.ids, x.probabilities, x.predicted, x, gold=x.gold)
    read = {name: [read_predictions(tmp_path / name)] for name in ("a", "b")}
    assert compare_pairs(read, "f1_macro", **FAST) == compare_pairs({"a": [a], "b": [b]}, "f1_macro", **FAST)


A, B = single(0, 40, [0.9, 0.8])
OTHER_IDS = run(B.predicted, B.gold, ids=[f"x{k}" for k in range(40)])


@pytest.mark.parametrize(
    ("methods", "metric", "error", "message"),
    [
        ({"a": [A]}, "accuracy", ConfigError, r"1 method\(s\) cannot be compared"),
        ({"a": [A], "b": []}, "accuracy", ConfigError, "'b' has no runs"),
        ({"a": [A], "b": [B]}, "f1_samples", ConfigError, "cannot be compared for a single-label task"),
        ({"a": [A], "b": [B, run(B.predicted, None)]}, "accuracy", DataError, "no gold labels"),
        ({"a": [A], "b": [B, OTHER_IDS]}, "accuracy", DataError, "run 2 of 'b' has other rows than 'a'"),
        ({"a": [A], "b": [run(B.predicted, B.gold, 5)]}, "accuracy", DataError, "other labels than 'a'"),
        ({"a": [A], "b": [run(B.predicted, 3 - B.gold)]}, "accuracy", DataError, "other gold labels"),
        ({"a": [run(B.predicted[:0], B.gold[:0])] * 2, "b": [A]}, "accuracy", DataError, "no rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(methods, metric, error, message):
    with pytest.raises(error, match=message):
        compare_pairs(methods, metric)


def test_no_resamples_is_refused():
    with pytest.raises(ConfigError, match="n_rounds is 0"):
        compare_pairs({"a": [A], "b": [B]}, "accuracy", n_rounds=0)


def test_a_difference_that_only_the_correction_undoes_says_so():
    base = {"a": "one", "b": "other", "metric": "accuracy", "n": 400, "runs_a": 3, "runs_b": 3}
    values = {"value_a": 0.7, "value_b": 0.6, "difference": 0.1, "interval": [0.02, 0.18]}
    found = PairComparison(**base, **values, p=0.004, p_holm=0.12)
    assert found.verdict.endswith("Holm p = 0.120 (p = 0.004 before the correction for all pairs), 400 rows")
    assert "before" not in replace(found, p_holm=0.04).verdict
    assert "before" not in replace(found, p=0.06).verdict


def test_many_methods_with_seeds_can_still_be_told_apart():
    """A p that is counted in 2,000 draws is never below 0.001, which 55 pairs multiply to more than 0.05."""
    steady = {f"m{k}": single(k, 400, [0.8, 0.802, 0.798]) for k in range(10)}
    gold = steady["m0"][0].gold
    runs = {
        name: [run(np.where(r.predicted == r.gold, gold, (gold + 1) % 4), gold) for r in given]
        for name, given in steady.items()
    }
    wrong = [run((gold + 1 + (np.arange(400) < k)) % 4, gold) for k in (0, 1, 2)]
    pairs = compare_pairs({"wrong": wrong, **runs}, "accuracy", n_rounds=9999)
    assert len(pairs) == 55
    assert all(pair.winner == pair.b for pair in pairs if pair.a == "wrong")
    assert {pair.winner for pair in pairs if pair.a != "wrong"} == {None}
