import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.naive_bayes import ComplementNB

from sortal.errors import DataError, ModelError
from sortal.prompting import shortlist as module
from sortal.prompting.shortlist import Shortlist, cross_fitted, recall

WORDS = ["ash", "birch", "cedar", "elm", "fir", "larch", "maple", "oak", "pine", "yew"]


def topics(n_labels=10, each=6, seed=0):
    """Texts of common words and one or two of their label's own, and the labels [n]."""
    rng = np.random.default_rng(seed)
    gold = np.repeat(np.arange(n_labels), each)
    texts = [
        " ".join([*rng.choice(["the", "a", "of", "in"], 4), *[WORDS[label]] * rng.integers(1, 3)])
        for label in gold
    ]
    return texts, gold


def indicator(rows, n_labels):
    gold = np.zeros((len(rows), n_labels), np.uint8)
    for row, labels in enumerate(rows):
        gold[row, labels] = 1
    return gold


@st.composite
def training_sets(draw):
    n, n_labels = draw(st.integers(0, 12)), draw(st.integers(1, 6))
    texts = draw(
        st.lists(
            st.lists(st.sampled_from([*WORDS[:5], "…", ""]), max_size=4).map(" ".join), min_size=n, max_size=n
        )
    )
    labels = st.integers(0, n_labels - 1)
    if draw(st.booleans()):
        gold = np.array(draw(st.lists(labels, min_size=n, max_size=n)), np.int64)
    else:
        gold = indicator(draw(st.lists(st.lists(labels), min_size=n, max_size=n)), n_labels)
    return texts, gold, n_labels, draw(st.integers(1, n_labels + 1)), draw(st.integers(0, 99))


def test_a_text_gets_the_label_whose_words_it_has():
    texts, gold = topics()
    shortlist = Shortlist.fit(texts, gold, 10, 1)
    assert shortlist.propose([f"in the {word} of a" for word in WORDS]).ravel().tolist() == list(range(10))


def test_a_text_gets_all_the_labels_whose_words_it_has():
    texts, gold = topics()
    shortlist = Shortlist.fit(texts, indicator(gold[:, None], 10), 10, 2)
    assert shortlist.propose(["oak of elm", "Yew! the Ash"]).tolist() == [[3, 7], [0, 9]]


def test_a_frequent_label_does_not_crowd_out_a_rare_one():
    texts = ["the ash"] * 200 + ["the oak", "oak"]
    shortlist = Shortlist.fit(texts, np.array([0] * 200 + [1, 1]), 2, 1)
    assert shortlist.propose(["the oak", "an oak", "the ash"]).ravel().tolist() == [1, 1, 0]


def test_features_are_sublinear_tf_idf_of_unit_length():
    shortlist = Shortlist.fit(["Ash ash elm", "elm"], np.array([0, 1]), 2, 1)
    ash, elm = (1 + np.log(2)) * np.log(3 / 1.5), np.log(3 / 2.5)
    expected = np.array([[ash, elm], [0, np.hypot(ash, elm)], [0, 0]]) / np.hypot(ash, elm)
    found = shortlist._features(["ash elm ash", "elm unheard", "unheard"]).toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_scores_are_complement_naive_bayes_plus_the_cosine_to_the_centroid():
    rng = np.random.default_rng(0)
    gold = rng.choice(
        6, 80, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    )  # uneven: the naive Bayes part leans on label sizes
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in gold]
    shortlist = Shortlist.fit(texts, gold, 6, 1)
    x = shortlist._features(texts).toarray().astype(np.float64)
    centroids = np.stack([x[gold == label].sum(axis=0) for label in range(6)])
    cosine = x @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T
    expected = ComplementNB().fit(x, gold).predict_joint_log_proba(x) + cosine
    (_, found), *more = shortlist._rankings(texts)
    assert not more
    np.testing.assert_array_equal(found, np.argsort(-expected, axis=1))


def test_texts_without_spaces_are_read_by_character_pairs():
    texts = ["我的信用卡丢了", "请问汇率是多少"]
    shortlist = Shortlist.fit(texts, np.array([0, 1]), 2, 1)
    assert shortlist.propose(["今天的汇率呢", "新的信用卡呢"]).ravel().tolist() == [1, 0]


def test_vowel_signs_do_not_split_words():
    assert "हिन्दी" in Shortlist.fit(["हिन्दी में"], np.array([0]), 2, 1).terms


def test_as_many_candidates_as_labels_are_all_labels():
    texts, gold = topics()
    every = np.tile(np.arange(10), (len(texts), 1))
    np.testing.assert_array_equal(Shortlist.fit(texts, gold, 10, 10).propose(texts), every)
    np.testing.assert_array_equal(Shortlist.fit(texts, gold, 10, 99).propose(texts), every)
    np.testing.assert_array_equal(cross_fitted(texts, gold, 10, 99, seed=0), every)


@settings(deadline=None)
@given(training_sets())
def test_every_text_gets_different_labels_in_ascending_order(data):
    texts, gold, n_labels, size, _ = data
    found = Shortlist.fit(texts, gold, n_labels, size).propose([*texts, "", "unheard of"])
    assert found.dtype == np.int64
    assert found.shape == (len(texts) + 2, min(size, n_labels))
    assert (np.diff(found, axis=1) > 0).all()
    assert ((found >= 0) & (found < n_labels)).all()


@pytest.mark.parametrize("text", ["", " \n", "…!", "unheard of"])
def test_a_text_without_known_words_gets_the_most_frequent_labels(text):
    texts = ["ash", "fir", "oak", "oak too", "oak again", "elm", "elm too"]
    shortlist = Shortlist.fit(texts, np.array([1, 2, 3, 3, 3, 4, 4]), 6, 3)
    assert shortlist.propose([text]).tolist() == [[1, 3, 4]]  # of the labels seen once, the first


def test_a_label_without_examples_is_the_last_choice():
    texts, gold = topics(n_labels=3)
    shortlist = Shortlist.fit(texts, gold + 1, 5, 3)
    assert shortlist.propose(["ash", "the", "elm", ""]).tolist() == [[1, 2, 3]] * 4


@pytest.mark.parametrize("texts", [[], ["", ""], ["…", "!"]])
def test_training_texts_without_words_still_rank_labels_by_frequency(texts, tmp_path):
    gold = np.full(len(texts), 2)
    shortlist = Shortlist.fit(texts, gold, 4, 2)
    assert shortlist.propose(["ash", ""]).tolist() == [[0, 2] if texts else [0, 1]] * 2
    shortlist.save(tmp_path)
    np.testing.assert_array_equal(Shortlist.load(tmp_path).propose(["ash"]), shortlist.propose(["ash"]))
    assert cross_fitted(texts, gold, 4, 2, seed=0).shape == (len(texts), 2)


def test_proposals_are_repeatable_and_independent_of_the_texts_beside(monkeypatch):
    texts, gold = topics(seed=3)
    first = Shortlist.fit(texts, gold, 10, 4).propose(texts)
    again = Shortlist.fit(texts, gold, 10, 4)
    np.testing.assert_array_equal(again.propose(texts), first)
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", 30)  # three rows at a time
    np.testing.assert_array_equal(again.propose(texts), first)
    np.testing.assert_array_equal(cross_fitted(texts, gold, 10, 4, 1), cross_fitted(texts, gold, 10, 4, 1))


def test_beyond_the_cap_only_the_largest_weights_stay(monkeypatch):
    texts, gold = topics()
    full = Shortlist.fit(texts, gold, 10, 1)
    monkeypatch.setattr(module, "MAX_WEIGHTS", 10)
    small = Shortlist.fit(texts, gold, 10, 1)
    assert full.weights.nnz > 10
    assert small.weights.nnz == 10
    assert small.weights.data.min() >= np.sort(full.weights.data)[-10]
    assert small.propose(WORDS).ravel().tolist() == list(range(10))


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(ValueError, match="at least 1"):
        Shortlist.fit(["ash"], np.array([0]), 2, size)


def test_gold_of_another_shape_is_refused():
    with pytest.raises(DataError, match="shape"):
        Shortlist.fit(["ash", "elm"], np.array([0]), 2, 1)
    with pytest.raises(DataError, match="outside 0…1"):
        cross_fitted(["ash", "elm"], np.array([0, 2]), 2, 1, seed=0)


def test_a_saved_shortlist_scores_the_same_to_the_bit(tmp_path):
    texts, gold = topics()
    shortlist = Shortlist.fit([*texts, "größe 汇率"], np.append(gold, 10), 12, 3)
    shortlist.save(tmp_path / "new")
    loaded = Shortlist.load(tmp_path / "new")
    assert (loaded.size, loaded.n_labels, loaded.terms) == (3, 12, shortlist.terms)
    for name in ("idf", "slope", "counts"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(shortlist, name), strict=True)
    assert loaded.weights.dtype == np.float32
    assert (loaded.weights != shortlist.weights).nnz == 0
    asked = [*texts, *WORDS, "", "größe", "汇率"]
    np.testing.assert_array_equal(loaded.propose(asked), shortlist.propose(asked))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [module.META, module.TENSORS]


def save_two(tmp_path):
    texts, gold = topics()
    Shortlist.fit(texts, gold, 10, 3).save(tmp_path / "a")
    Shortlist.fit(texts[6:], gold[6:], 10, 3).save(tmp_path / "b")
    return tmp_path / "a"


@pytest.mark.parametrize("name", [module.META, module.TENSORS])
def test_a_missing_file_is_named(tmp_path, name):
    folder = save_two(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        Shortlist.load(folder)


@pytest.mark.parametrize("name", [module.META, module.TENSORS])
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "from another model"])
def test_a_damaged_or_foreign_file_is_refused(tmp_path, name, damage):
    path = save_two(tmp_path) / name
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        place = data.index(b"birch") if name == module.META else len(data) - 3
        data[place] ^= 1
    other = (tmp_path / "b" / name).read_bytes()
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "flipped": data}.get(damage, other))
    with pytest.raises(ModelError, match=module.META if damage == "from another model" else "damaged"):
        Shortlist.load(path.parent)


@pytest.mark.parametrize("value", [[], None, 7, {}, {"format": 1}])
def test_json_of_another_kind_is_refused(tmp_path, value):
    folder = save_two(tmp_path)
    (folder / module.META).write_text(json.dumps(value))
    with pytest.raises(ModelError, match="damaged"):
        Shortlist.load(folder)


def test_another_format_is_named(tmp_path):
    folder = save_two(tmp_path)
    meta = json.loads((folder / module.META).read_text())
    (folder / module.META).write_text(json.dumps(meta | {"format": 2}))
    with pytest.raises(ModelError, match="format 2; this version reads 1"):
        Shortlist.load(folder)


@settings(deadline=None)
@given(training_sets())
def test_cross_fitted_candidates_contain_the_gold_labels(data):
    texts, gold, n_labels, size, seed = data
    found = cross_fitted(texts, gold, n_labels, size, seed)
    size = min(size, n_labels)
    assert found.dtype == np.int64
    assert found.shape == (len(texts), size)
    assert (np.diff(found, axis=1) > 0).all()
    assert ((found >= 0) & (found < n_labels)).all()
    for row, candidates in enumerate(found):
        true = {int(gold[row])} if gold.ndim == 1 else set(np.flatnonzero(gold[row]).tolist())
        assert len(true & set(candidates.tolist())) == min(len(true), size)


def test_cross_fitted_candidates_come_from_models_that_did_not_see_the_row():
    # Labels 1 to 8 have one example each, with a word of its own. A model that saw it finds that label the
    # best; to one that did not, it is unknown, and the other gold label is the one that stays.
    texts = ["ash"] * 8 + [f"ash word{i}" for i in range(1, 9)]
    gold = indicator([[0]] * 8 + [[0, i] for i in range(1, 9)], 9)
    assert Shortlist.fit(texts, gold, 9, 1).propose(texts[8:]).ravel().tolist() == list(range(1, 9))
    assert cross_fitted(texts, gold, 9, 1, seed=0).ravel().tolist() == [0] * 16


def test_a_missed_gold_label_takes_the_place_of_the_worst_candidate():
    # Row 0 is an oak text with a label of its own: without it, 7 leads, then 1, which also has oaks.
    texts = ["oak", *["oak"] * 4, *["birch oak"] * 4, *["cedar"] * 9]
    gold = np.array([0, *[7] * 4, *[1] * 4, *[2] * 9])
    held_out = Shortlist.fit(texts[1:], gold[1:], 8, 2)
    assert held_out.propose(["oak"]).tolist() == [[1, 7]]
    assert cross_fitted(texts, gold, 8, 2, seed=0, folds=len(texts))[0].tolist() == [0, 7]


def test_of_too_many_gold_labels_the_best_stay():
    texts, gold = topics(n_labels=5)
    gold = indicator(gold[:, None], 6)
    crowded = indicator([[0, 1, 3, 5]], 6)
    found = cross_fitted(["elm birch the", *texts], np.vstack([crowded, gold]), 6, 2, seed=0)
    assert found[0].tolist() == [1, 3]


def test_labels_with_two_examples_are_spread_over_the_folds():
    texts = [f"the {word}" for word in WORDS for _ in range(2)]
    gold = np.repeat(np.arange(10), 2)
    for seed in range(5):
        fold = module.deal(module._indicator(gold, 20, 10), 5, np.random.default_rng(seed))
        assert np.bincount(fold).tolist() == [4] * 5
        assert (fold[::2] != fold[1::2]).all()
    assert not np.array_equal(
        cross_fitted(texts, gold, 10, 5, seed=0), cross_fitted(texts, gold, 10, 5, seed=1)
    )


def test_a_single_fold_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        cross_fitted(["ash", "elm"], np.array([0, 1]), 2, 1, seed=0, folds=1)


def test_recall_counts_gold_labels():
    candidates = np.array([[0, 2], [1, 2], [0, 1]])
    assert recall(candidates, np.array([2, 0, 1])) == pytest.approx(2 / 3)
    gold = indicator([[0, 1, 2], [], [3]], 4)  # 0 and 2 of four are there
    assert recall(candidates, gold) == pytest.approx(2 / 4)


def test_recall_without_gold_labels_is_perfect():
    assert recall(np.array([[0, 1]]), np.zeros((1, 3), np.uint8)) == 1.0
    assert recall(np.zeros((0, 2), np.int64), np.zeros(0, np.int64)) == 1.0


def test_recall_does_not_overflow_with_many_labels():
    gold = np.ones((2, 300), np.uint8)
    assert recall(np.tile(np.arange(300), (2, 1)), gold) == 1.0
