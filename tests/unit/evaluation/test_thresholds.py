import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import f1_score

from sortal.evaluation import cuts, scores, thresholds
from sortal.evaluation.cuts import LabelCuts
from sortal.evaluation.floor import search_floor
from sortal.evaluation.thresholds import tune_thresholds


def score(gold, probabilities, limits, metric):
    given, gold = probabilities >= limits, gold.astype(bool)
    hits, both = (given & gold).sum(axis=0), given.sum(axis=0) + gold.sum(axis=0)
    if metric == "f1_micro":
        return 2 * hits.sum() / max(both.sum(), 1)
    return np.mean(2 * hits / np.maximum(both, 1))


@st.composite
def dev_sets(draw):
    n, n_labels = draw(st.integers(1, 14)), draw(st.integers(1, 5))
    seed, coarse = draw(st.integers(0, 10_000)), draw(st.booleans())
    rng = np.random.default_rng(seed)
    p = rng.random((n, n_labels))
    p = np.round(p * 4) / 4 if coarse else p  # ties, 0 and 1
    return p, (rng.random((n, n_labels)) < draw(st.sampled_from([0.0, 0.2, 0.5]))).astype(np.uint8)


@settings(deadline=None)
@given(dev_sets(), st.sampled_from(["f1_macro", "f1_micro"]))
def test_the_global_threshold_is_the_best_there_is(dev, metric):
    p, gold = dev
    limits = tune_thresholds(p, gold, mode="global", metric=metric, shrinkage=0)
    assert len(set(limits)) == 1
    reached = score(gold, p, limits, metric)
    # every distinct outcome of one threshold is reached at one of the values, and 0.5 is one of the outcomes
    assert reached >= max(score(gold, p, t, metric) for t in [*np.unique(p), 0.5]) - 1e-12


@settings(deadline=None)
@given(
    dev_sets(),
    st.sampled_from(["auto", "global", "per_label", "none"]),
    st.sampled_from(["f1_macro", "f1_micro"]),
)
def test_thresholds_are_probabilities_one_per_label(dev, mode, metric):
    p, gold = dev
    limits = tune_thresholds(p, gold, mode=mode, metric=metric)
    assert limits.shape == (p.shape[1],)
    assert ((limits >= 0) & (limits <= 1)).all()
    if mode == "none" or not gold.any():
        assert (limits == 0.5).all()


@settings(deadline=None)
@given(dev_sets())
def test_unshrunk_per_label_thresholds_are_each_labels_best(dev):
    p, gold = dev
    own = LabelCuts.build(p, gold).macro()
    for k in np.flatnonzero(gold.any(axis=0)):
        best = max(f1_score(gold[:, k], p[:, k] >= t, zero_division=0) for t in np.unique(p[:, k]))
        assert f1_score(gold[:, k], p[:, k] >= own[k], zero_division=0) == pytest.approx(best, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_unshrunk_micro_thresholds_are_the_best_combination(seed):
    rng = np.random.default_rng(seed)
    p, gold = rng.random((5, 3)), (rng.random((5, 3)) < 0.4).astype(np.uint8)
    if not gold.any():
        return
    own = LabelCuts.build(p, gold).micro()
    own[~gold.any(axis=0)] = 1.0  # never: there is nothing to learn a threshold from
    choices = [[*p[:, k], 1.0] for k in range(3)]
    best = max(
        score(gold, p, np.array([a, b, c]), "f1_micro")
        for a in choices[0]
        for b in choices[1]
        for c in choices[2]
    )
    assert score(gold, p, own, "f1_micro") == pytest.approx(best, abs=1e-12)


def uneven_dev(n_rare):
    """Two labels best cut near 0.7, which is the best global cut, and one whose own best cut is near 0.1; 400 rows."""
    rng = np.random.default_rng(3)
    gold = np.zeros((400, 3), dtype=np.uint8)
    gold[::4] = [1, 0, 1]
    gold[:n_rare, 1] = 1
    p = np.where(gold, [0.8, 0.15, 0.8], [0.6, 0.05, 0.6]) + rng.uniform(-0.03, 0.03, gold.shape)
    return p, gold


def test_rare_labels_stay_near_the_global_threshold():
    distance = []
    for n_rare in (2, 30, 200):
        p, gold = uneven_dev(n_rare)
        shared = tune_thresholds(p, gold, mode="global")[1]
        own = LabelCuts.build(p, gold).macro()[1]
        limit = tune_thresholds(p, gold, mode="per_label")[1]
        weight = n_rare / (n_rare + 10)
        assert limit == pytest.approx(expit(weight * logit(own) + (1 - weight) * logit(shared)))
        distance.append(abs(logit(limit) - logit(own)) / abs(logit(shared) - logit(own)))
    assert distance == pytest.approx([10 / 12, 10 / 40, 10 / 210])


@pytest.mark.parametrize("rows", [3, 19, 20])
def test_the_global_threshold_of_a_handful_of_rows_is_drawn_towards_a_half(rows):
    p = np.full((rows, 2), 0.02)
    gold = np.zeros((rows, 2), np.uint8)
    p[0], gold[0] = [0.1, 0.02], [1, 0]
    best, found = (tune_thresholds(p, gold, mode="global", shrinkage=s)[0] for s in (0, 10))
    assert 0.02 < best < 0.1
    if rows == 20:
        assert found == best
    else:  # one positive weighs an eleventh
        assert logit(found) == pytest.approx(logit(best) / 11)


def test_a_label_without_dev_rows_takes_the_global_threshold():
    p, gold = uneven_dev(30)
    gold = np.hstack([gold, np.zeros((400, 1), np.uint8)])
    p = np.hstack([p, np.full((400, 1), 0.01)])
    assert tune_thresholds(p, gold, mode="per_label")[3] == tune_thresholds(p, gold, mode="global")[3]


def test_auto_takes_per_label_when_labels_differ_and_global_when_they_do_not():
    p, gold = uneven_dev(200)
    np.testing.assert_array_equal(tune_thresholds(p, gold), tune_thresholds(p, gold, mode="per_label"))
    rng = np.random.default_rng(0)
    gold = (rng.random((60, 30)) < 0.1).astype(np.uint8)  # a handful of positives each, all labels alike
    p = expit(rng.normal(size=gold.shape) + 2 * gold - 1)
    np.testing.assert_array_equal(tune_thresholds(p, gold), tune_thresholds(p, gold, mode="global"))


def test_auto_is_repeatable_and_legal_on_few_rows():
    p, gold = uneven_dev(30)
    np.testing.assert_array_equal(tune_thresholds(p, gold, seed=5), tune_thresholds(p, gold, seed=5))
    np.testing.assert_array_equal(
        tune_thresholds(p[:4], gold[:4]), tune_thresholds(p[:4], gold[:4], mode="global")
    )


def test_the_cut_lies_in_the_middle_of_the_gap():
    p = np.array([[0.9], [0.7], [0.3], [0.2]])
    gold = np.array([[1], [1], [0], [0]])
    assert tune_thresholds(p, gold, mode="global")[0] == pytest.approx(0.5)


def test_neighbouring_floats_are_still_separated():
    low = 0.3
    p = np.array([[np.nextafter(low, 1)], [low]])
    limits = tune_thresholds(p, np.array([[1], [0]]), mode="global", shrinkage=0)
    assert (p >= limits).ravel().tolist() == [True, False]


# many labels


def rare_dev(seed, n=90, n_labels=60):
    """Labels of very different frequency, most of them without or with a handful of positives; ties among the probabilities."""
    rng = np.random.default_rng(seed)
    frequency = 0.3 / np.arange(1, n_labels + 1)
    gold = (rng.random((n, n_labels)) < frequency).astype(np.uint8)
    p = expit(rng.normal(size=gold.shape) * 1.5 + 3 * gold + logit(frequency))
    return np.round(p, 3), gold


@pytest.mark.parametrize("mode", ["auto", "global", "per_label"])
@pytest.mark.parametrize("metric", ["f1_macro", "f1_micro"])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_and_the_floor_change_no_threshold(monkeypatch, mode, metric, seed):
    p, gold = rare_dev(seed)
    whole = tune_thresholds(p, gold, mode=mode, metric=metric)
    monkeypatch.setattr(cuts, "_BLOCK", 200)
    monkeypatch.setattr(scores, "BLOCK", 700)
    monkeypatch.setattr(thresholds, "search_floor", lambda *given: search_floor(*given, from_pairs=1))
    np.testing.assert_array_equal(tune_thresholds(p, gold, mode=mode, metric=metric), whole)


@pytest.mark.parametrize("metric", ["f1_macro", "f1_micro"])
def test_the_floor_leaves_out_most_pairs_and_never_the_best_cut(metric):
    p, gold = rare_dev(1)
    fold = np.arange(len(p)) % 5
    floor = search_floor(p, gold, fold, metric, from_pairs=1)
    assert (p >= floor).mean() < 0.5
    for rows in (fold >= 0, *(fold != k for k in range(5))):
        values = {t: score(gold[rows], p[rows], t, metric) for t in np.unique(p[rows])}
        best = max(values.values())
        assert all(value < best for t, value in values.items() if t < floor)
    assert search_floor(p, gold, fold, metric) == 0  # few pairs are simply sorted


def test_a_label_seen_up_to_three_times_moves_at_most_a_quarter_of_the_way():
    for n_rare in (1, 2, 3):
        p, gold = uneven_dev(n_rare)
        shared = tune_thresholds(p, gold, mode="global")[1]
        own = tune_thresholds(p, gold, mode="per_label", shrinkage=0)[1]
        limit = tune_thresholds(p, gold, mode="per_label")[1]
        assert own == pytest.approx(LabelCuts.build(p, gold).macro()[1])
        assert abs(logit(own) - logit(shared)) > 1
        assert abs(logit(limit) - logit(shared)) <= abs(logit(own) - logit(shared)) / 4
