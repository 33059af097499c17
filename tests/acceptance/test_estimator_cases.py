"""`sortal.SortalClassifier` as scikit-learn uses it, beside the command line on the same rows."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import sortal
from baseline_runs import topics
from sortal import SortalClassifier
from sortal.cli.main import main
from sortal.errors import InputError, RunFolderError
from tiny_runs import rows, write_csv

LABELS = ("good", "bad", "odd")
TEXTS = [text for text, _ in rows(90, LABELS)]
GOLD = [label for _, label in rows(90, LABELS)]
HARD = ["fine", "", "ugly and queer", None, "\ud83d", "文字 \U0001f600", "   "]
TOPIC_TEXTS = [text for text, _ in topics(60)]
TOPIC_LISTS = [cell.split("|") if cell else [] for _, cell in topics(60)]
MATRIX = np.array([[int(name in row) for name in ("m", "p")] for row in TOPIC_LISTS])
TINY = {"dtype": "float32", "threads": 1, "head_learning_rate": 5e-2}


@pytest.fixture(scope="module")
def fitted():
    return SortalClassifier("tfidf").fit(TEXTS, GOLD)


@pytest.fixture(scope="module")
def tiny_head(tiny):
    """An unfitted head that learns in one short pass."""
    return SortalClassifier(
        "head", str(tiny), epochs=1, batch_size=8, learning_rate=5e-3, max_length=96, settings=TINY
    )


# the same answers everywhere


@pytest.mark.parametrize("method", ["tfidf", "head"])
def test_it_answers_as_the_command_line_trained_on_the_same_rows(method, fitted, tiny_head, tmp_path, capsys):
    data, out = write_csv(tmp_path / "d.csv", rows(90, LABELS)), tmp_path / "run"
    words = ["train", str(data), "--method", method, "--out", str(out), "--set", "test_size=0"]
    estimator: Any = fitted
    if method == "head":
        estimator = clone(tiny_head).fit(TEXTS, GOLD)
        words += ["--model", tiny_head.model, "--epochs", "1", "--batch-size", "8", "--max-length", "96"]
        words += [f"--set={name}={value}" for name, value in {"learning_rate": 5e-3, **TINY}.items()]
    assert main(words) == 0
    capsys.readouterr()
    file = sortal.load(out / "model")
    assert estimator.predict(TEXTS).tolist() == file.predict(TEXTS)
    np.testing.assert_array_equal(estimator.predict_proba(TEXTS), file.predict_proba(TEXTS))
    assert tuple(estimator.classes_) == file.classes_
    assert estimator.classifier_.meta["data_fingerprints"] == file.meta["data_fingerprints"]


def test_the_saved_folder_answers_as_the_estimator(fitted, tmp_path):
    saved = sortal.load(fitted.save(tmp_path / "model"))
    clean = ["" if text is None else text for text in HARD]
    assert saved.predict(clean) == fitted.predict(HARD).tolist()
    np.testing.assert_array_equal(saved.predict_proba(clean), fitted.predict_proba(HARD))
    with pytest.raises(RunFolderError, match="exists already"):
        fitted.save(tmp_path / "model")


def test_every_text_is_answered_in_its_place(fitted):
    assert len(fitted.predict(HARD)) == len(HARD)
    assert fitted.predict(HARD)[3] == fitted.predict([""])[0]
    assert fitted.predict([]).shape == (0,)
    assert fitted.predict_proba([]).shape == (0, 3)


def test_columns_are_the_classes_and_scores_give_the_probabilities(fitted):
    assert fitted.classes_.tolist() == sorted(LABELS)
    found = fitted.predict_proba(TEXTS)
    assert fitted.classes_[found.argmax(1)].tolist() == fitted.predict(TEXTS).tolist()
    scores = np.exp(fitted.decision_function(TEXTS))
    np.testing.assert_allclose(scores / scores.sum(1, keepdims=True), found, atol=1e-9)


def test_of_two_classes_the_score_is_the_log_odds_of_the_second():
    estimator = SortalClassifier("tfidf").fit([t for t, _ in rows(40)], [y == "good" for _, y in rows(40)])
    assert estimator.classes_.tolist() == [False, True]
    scores, found = estimator.decision_function(TEXTS), estimator.predict_proba(TEXTS)
    assert scores.shape == (90,)
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), found[:, 1], atol=1e-9)
    assert estimator.predict(TEXTS).dtype == bool
    np.testing.assert_array_equal(estimator.predict(TEXTS), scores > 0)


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(len(LABELS))))
def test_other_names_for_the_labels_only_move_the_columns(order):
    plain = SortalClassifier("tfidf", settings={"metric_for_best_model": "accuracy"}).fit(TEXTS, GOLD)
    renamed = {name: f"{k} {name}" for k, name in zip(order, LABELS, strict=True)}
    other = clone(plain).fit(TEXTS, [renamed[label] for label in GOLD])
    columns = [list(other.classes_).index(renamed[name]) for name in plain.classes_]
    np.testing.assert_allclose(other.predict_proba(TEXTS)[:, columns], plain.predict_proba(TEXTS), atol=1e-6)
    assert [renamed[label] for label in plain.predict(TEXTS)] == other.predict(TEXTS).tolist()


# rows, settings and seeds


def test_given_dev_rows_are_not_trained_on_and_leave_all_of_x_to_training():
    estimator = SortalClassifier("majority").fit(TEXTS, GOLD, X_dev=["new"] * 3, y_dev=["odd", "odd", "bad"])
    assert estimator.classifier_.scorer.counts.tolist() == [30, 30, 30]
    with pytest.raises(InputError, match="X_dev and y_dev belong together"):
        estimator.fit(TEXTS, GOLD, X_dev=TEXTS)
    with pytest.raises(InputError, match="X_dev: row 2: label 'god' does not occur"):
        estimator.fit(TEXTS, GOLD, X_dev=["a", "b"], y_dev=["good", "god"])


def test_the_rows_of_a_group_stay_together(monkeypatch):
    from sortal import parts

    seen = []
    real = parts.split
    monkeypatch.setattr(
        parts, "split", lambda whole, **more: seen.append((whole, real(whole, **more))) or seen[-1][1]
    )
    groups = [k // 10 for k in range(90)]
    SortalClassifier("majority", validation_fraction=0.3).fit(TEXTS, GOLD, groups=groups)
    whole, cut = seen[0]
    sides = [{whole.groups[k] for k in cut[part].tolist()} for part in ("train", "dev")]
    assert not sides[0] & sides[1]
    gaps = [None, float("nan"), ""] * 30
    SortalClassifier("majority", validation_fraction=0.3).fit(TEXTS, GOLD, groups=gaps)
    assert 20 <= len(seen[1][1]["dev"]) <= 34, "rows without a group are not one group"
    with pytest.raises(InputError, match="groups has 1 rows, and X 90"):
        SortalClassifier("majority").fit(TEXTS, GOLD, groups=["a"])


def test_text_columns_are_joined_and_remembered(tmp_path):
    frame = pd.DataFrame({"title": TEXTS, "body": ["x", None, "y"] * 30})
    estimator = SortalClassifier("tfidf", settings={"text_template": "{title} / {body}"}).fit(frame, GOLD)
    assert (estimator.n_features_in_, list(estimator.feature_names_in_)) == (2, ["title", "body"])
    schema = sortal.load(estimator.save(tmp_path / "model")).meta["schema"]
    assert (schema["text"], schema["text_template"]) == (["title", "body"], "{title} / {body}")
    frame.assign(kind=GOLD).to_csv(tmp_path / "d.csv", index=False)
    saved = sortal.load(tmp_path / "model")
    assert saved.evaluate(tmp_path / "d.csv", n_resamples=0)["accuracy"] == estimator.score(frame, GOLD)
    with pytest.raises(ValueError, match="X has 1 features, but SortalClassifier is expecting 2"):
        estimator.predict(TEXTS)


def test_the_seed_decides_and_numpys_generator_is_left_alone():
    np.random.seed(4)
    expected = np.random.get_state()[1].tolist()
    found = [SortalClassifier("majority", random_state=seed).fit(TEXTS, GOLD) for seed in (0, 0, 1)]
    assert np.random.get_state()[1].tolist() == expected
    dev = [estimator.classifier_.meta["data_fingerprints"]["dev"] for estimator in found]
    assert dev[0] == dev[1] != dev[2]
    drawn = [SortalClassifier("majority", random_state=None).fit(TEXTS, GOLD).classifier_ for _ in range(2)]
    assert drawn[0].meta["seed"] != drawn[1].meta["seed"]


def test_class_weights_reach_the_loss_by_the_callers_labels(tiny_head):
    y = [int(label == "good") for label in GOLD]
    one_sided = clone(tiny_head).set_params(class_weight={0: 0.0, 1: 1.0}).fit(TEXTS, y)
    assert set(one_sided.predict(TEXTS).tolist()) == {1}


def test_what_cannot_be_trained_on_is_a_value_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"SortalClassifier: epochs is for methods that tune"):
        SortalClassifier("tfidf", epochs=1).fit(TEXTS, GOLD)
    with pytest.raises(ValueError, match=r"X: 3 rows in 3 distinct texts or groups leave .*\n→ add rows"):
        SortalClassifier("tfidf", validation_fraction=0.01).fit(["a", "b", "c"], [0, 1, 0])
    with pytest.raises(NotFittedError):
        SortalClassifier().predict(["a"])


@pytest.mark.parametrize("method", ["head", "encoder"])
def test_it_shows_nothing_unless_asked(method, tiny_head, tiny_encoders, capfd):
    estimator = clone(tiny_head)
    if method == "encoder":
        estimator.set_params(method=method, model=str(tiny_encoders["bert"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        estimator.fit(TEXTS, GOLD).predict(TEXTS)
    assert capfd.readouterr() == ("", "")


def test_it_warns_of_what_needs_attention_and_can_tell_all(capfd):
    with pytest.warns(UserWarning, match="1 label with a single example"):
        SortalClassifier("majority").fit([*TEXTS, "alone"], [*GOLD, "rare"])
    SortalClassifier("majority", verbose=1).fit(TEXTS, GOLD)
    assert "X: split into train 81, dev 9 rows." in capfd.readouterr().err


# several labels


@pytest.mark.parametrize(
    "y", [MATRIX, pd.DataFrame(MATRIX, columns=["m", "p"]), TOPIC_LISTS], ids=str.__class__
)
def test_several_labels_come_back_as_they_were_given(y, tmp_path):
    estimator = SortalClassifier("tfidf").fit(TOPIC_TEXTS, y)
    saved = sortal.load(estimator.save(tmp_path / "model"))
    decided = saved.predict(TOPIC_TEXTS)
    names = saved.classes_
    expected = np.array([[int(name in row) for name in names] for row in decided])
    probabilities, thresholds = estimator.predict_proba(TOPIC_TEXTS), saved.decision.thresholds
    np.testing.assert_array_equal(probabilities >= np.array(thresholds), expected)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-estimator.decision_function(TOPIC_TEXTS))), probabilities, atol=1e-9
    )
    found = estimator.predict(TOPIC_TEXTS)
    if y is TOPIC_LISTS:
        assert found == [tuple(row) for row in decided]
    else:
        np.testing.assert_array_equal(found, expected)
    right = (expected == MATRIX).all(1).mean()
    assert estimator.score(TOPIC_TEXTS, y) == pytest.approx(right)
    assert right > 0.7


def test_scores_of_several_labels_in_cross_validation():
    scores = cross_val_score(SortalClassifier("tfidf"), TOPIC_TEXTS, MATRIX, scoring="f1_samples", cv=2)
    one = SortalClassifier("tfidf").fit(TOPIC_TEXTS[30:], MATRIX[30:])
    assert scores[0] == f1_score(
        MATRIX[:30], one.predict(TOPIC_TEXTS[:30]), average="samples", zero_division=0
    )
    assert scores.min() > 0.5


# what it does not know


def test_the_policy_for_what_the_model_does_not_know(fitted):
    texts = ["fine nice", "zzz"]
    best = fitted.predict(texts).tolist()
    sure = fitted.predict_proba(texts).max(1)
    assert sure[1] < 0.6 < sure[0]
    unsure = SortalClassifier("tfidf", abstain_below=0.6).fit(TEXTS, GOLD)
    found = unsure.predict(texts)
    assert (found.tolist(), found.dtype) == ([best[0], None], object)
    assert unsure.classifier_.predict(texts) == [best[0], None]
    assert unsure.score(texts, best) == 0.5
    assert unsure.score(texts, best, sample_weight=[3, 1]) == 0.75
    assert unsure.set_params(on_abstain="ignore").predict(texts).tolist() == best
    with pytest.warns(UserWarning, match="1 of 2 texts have no label as probable as abstain_below, 0.6"):
        assert unsure.set_params(on_abstain="warn").predict(texts).tolist() == best
    with pytest.raises(InputError, match="1 of 2 texts have no label"):
        unsure.set_params(on_abstain="raise").predict(texts)
    assert unsure.predict(texts[:1]).tolist() == best[:1]
    assert unsure.set_params(on_abstain="return_none").predict(texts[:1]).dtype == object


# inside scikit-learn


def test_a_pipeline_cleans_texts_first():
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipe = Pipeline([("lower", lower), ("classify", SortalClassifier("tfidf"))]).fit(TEXTS, GOLD)
    shouted = [text.upper() for text in TEXTS]
    assert pipe.predict(shouted).tolist() == pipe.predict(TEXTS).tolist()
    assert pipe.set_params(classify__method="majority").get_params()["classify__method"] == "majority"


def test_a_search_over_methods_and_learning_rates(tiny, tiny_encoders, tiny_head):
    of_head = ("model", "epochs", "batch_size", "learning_rate", "max_length", "settings")
    grid = [
        {"learning_rate": [1e-4, 5e-3]},
        {"method": ["encoder"], "model": [str(tiny_encoders["bert"])], "learning_rate": [1e-3]},
        {"method": ["tfidf"], **{name: [None] for name in of_head}},
    ]
    search = GridSearchCV(tiny_head, grid, cv=2, error_score="raise").fit(TEXTS, GOLD)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ == search.cv_results_["mean_test_score"].max() > 0.6
    assert search.predict(TEXTS[:2]).tolist() == search.best_estimator_.predict(TEXTS[:2]).tolist()


def test_cross_validation_in_other_processes_gives_the_same():
    estimator = SortalClassifier("tfidf")
    here = cross_val_score(estimator, TEXTS, GOLD, cv=2)
    there = cross_val_score(estimator, TEXTS, GOLD, cv=2, n_jobs=2)
    get_reusable_executor().shutdown()  # its processes would wait for more work
    np.testing.assert_array_equal(there, here)


def test_calibration_and_frozen_estimators(fitted):
    refitted = CalibratedClassifierCV(SortalClassifier("tfidf"), cv=2).fit(TEXTS, GOLD)
    np.testing.assert_allclose(refitted.predict_proba(TEXTS).sum(1), 1)
    assert np.mean(refitted.predict(TEXTS) == np.array(GOLD)) > 0.9
    kept = CalibratedClassifierCV(FrozenEstimator(fitted)).fit(TEXTS, GOLD)
    assert kept.predict(TEXTS).tolist() == fitted.predict(TEXTS).tolist()


def test_clones_keep_parameters_and_nothing_fitted(fitted):
    weights = {"good": 2.0}
    parameters = clone(SortalClassifier(class_weight=weights, settings={"lora_dropout": 0.1})).get_params()
    assert (parameters["class_weight"], parameters["settings"]) == (weights, {"lora_dropout": 0.1})
    assert not hasattr(clone(fitted), "classes_")
    again = clone(fitted).fit(TEXTS, GOLD)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


@pytest.mark.parametrize("kind", ["tfidf", "head"])
def test_a_pickle_and_a_copy_answer_alike_when_the_original_is_gone(kind, tiny_head):
    first = clone(tiny_head) if kind == "head" else SortalClassifier(kind)
    expected = first.fit(TEXTS, GOLD).predict_proba(TEXTS)
    folder = first._model.folder
    others = [pickle.loads(pickle.dumps(first)), copy.deepcopy(first)]
    del first
    gc.collect()
    assert not folder.exists()
    for other in others:
        np.testing.assert_allclose(other.predict_proba(TEXTS), expected, atol=1e-6)
        assert other.classes_.tolist() == sorted(LABELS)
