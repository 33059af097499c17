"""``sortal.train`` and ``sortal.load``: what a program gets, and what it is told when it asks wrongly."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sortal
from sortal.data.dataset import Dataset
from sortal.errors import DataError, ModelError, SortalError
from tiny_runs import rows, write_csv

QUICK: dict[str, Any] = {"dtype": "float32", "threads": 1, "epochs": 1, "batch_size": 8, "n_resamples": 100}
QUICK |= {"max_length": 96, "learning_rate": 5e-3, "head_learning_rate": 5e-2}


@pytest.fixture(scope="module")
def single(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> sortal.Classifier:
    folder = tmp_path_factory.mktemp("single")
    data = write_csv(folder / "d.csv", rows(60, ("good", "bad", "odd")))
    return sortal.train(data, model=str(tiny), out=str(folder / "run"), **QUICK)


@pytest.fixture(scope="module")
def multi(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> sortal.Classifier:
    folder = tmp_path_factory.mktemp("multi")
    made = [(text, i % 2, int(i % 3 == 0)) for i, (text, _) in enumerate(rows(60))]
    data = write_csv(folder / "d.csv", made, ("text", "a", "b"))
    columns = ["b", "a"]
    return sortal.train(data, model=str(tiny), out=str(folder / "run"), label_columns=columns, **QUICK)


def test_train_returns_a_classifier_that_load_gives_again(single):
    texts = ["fine", "ugly", "", "weird thing"]
    assert isinstance(single, sortal.Classifier)
    again = sortal.load(Path(single.meta["run_folder"]) / "model")
    assert again.classes_ == single.classes_ == ("bad", "good", "odd")
    np.testing.assert_allclose(again.predict_proba(texts), single.predict_proba(texts), atol=1e-6)
    assert again.predict(texts) == single.predict(texts)


def test_probabilities_of_one_label_sum_to_one_and_their_best_is_the_answer(single):
    texts = [text for text, _ in rows(20)]
    found = single.predict_proba(texts)
    assert (found.shape, found.dtype) == ((20, 3), np.float64)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-9)
    assert single.predict(texts) == [single.classes_[k] for k in found.argmax(1)]


def test_several_labels_come_as_tuples_in_label_order_by_their_thresholds(multi):
    texts = [text for text, _ in rows(20)]
    assert multi.classes_ == ("b", "a")
    found = multi.predict_proba(texts)
    assert (found > 0).all()
    assert (found < 1).all()
    thresholds = multi.decision.thresholds
    assert thresholds is not None
    expected = [
        tuple(n for n, p, t in zip(multi.classes_, row, thresholds, strict=True) if p >= t) for row in found
    ]
    assert multi.predict(texts) == expected


def test_one_text_gets_the_same_answer_alone_and_among_others(single):
    texts = [text for text, _ in rows(30)]
    together = single.predict_proba(texts)
    alone = np.concatenate([single.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_texts_give_no_answers(single):
    assert single.predict([]) == []
    assert single.predict_proba([]).shape == (0, 3)


def test_evaluate_takes_a_file_or_rows_and_equals_the_run(single, tmp_path):
    run = Path(single.meta["run_folder"])
    made = rows(60, ("good", "bad", "odd"))
    data = write_csv(tmp_path / "all.csv", made)
    from_file = single.evaluate(data, n_resamples=100)
    dataset = single.read(data)
    assert isinstance(dataset, Dataset)
    assert single.evaluate(dataset, n_resamples=100) == from_file
    right = [a == b for a, (_, b) in zip(single.predict([t for t, _ in made]), made, strict=True)]
    assert from_file["accuracy"] == pytest.approx(np.mean(right))
    assert from_file["n"] == 60
    assert json.loads((run / "metrics.json").read_text())["n"] == 9


def test_it_abstains_with_none(single, tiny, tmp_path):
    data = write_csv(tmp_path / "d.csv", rows(60))
    unsure = sortal.train(data, model=str(tiny), out=str(tmp_path / "run"), abstain_below=1.0, **QUICK)
    assert unsure.predict(["fine", "ugly"]) == [None, None]
    assert sortal.load(tmp_path / "run" / "model").predict(["fine"]) == [None]
    assert None not in single.predict(["fine", "ugly"])


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ("one string", r"predict takes a list of texts, not one string\n→ write predict\(\[text\]\)"),
        (["a", None], "text 2 is a NoneType, not a string"),
        ([3.5], "text 1 is a float, not a string"),
        ([b"bytes"], "text 1 is a bytes, not a string"),
    ],
)
def test_what_is_not_a_list_of_strings_is_refused(single, texts, reason):
    for ask in (single.predict, single.predict_proba):
        with pytest.raises(DataError, match=reason):
            ask(texts)


def test_a_text_may_hold_a_lone_surrogate(single):
    broken, mended = single.predict_proba(["a \ud83d b", "a \ufffd b"])
    assert np.isfinite(broken).all()
    assert np.isfinite(mended).all()


def test_load_of_something_else_says_what_to_give(single, tmp_path):
    with pytest.raises(ModelError, match=r"has no sortal\.json\n→ give the model/ folder"):
        sortal.load(tmp_path)
    with pytest.raises(ModelError, match=r"is a run's folder, not a model's\n→ use .*model"):
        sortal.load(single.meta["run_folder"])


def test_errors_share_one_base_and_say_what_to_do(tiny, tmp_path):
    with pytest.raises(SortalError) as error:
        sortal.train(tmp_path / "none.csv", model=str(tiny))
    assert error.value.fix
    assert error.value.exit_code == 2


def test_one_text_column_may_be_given_as_a_string(tiny, tmp_path):
    made = [("x", text, label) for text, label in rows(40)]
    data = write_csv(tmp_path / "d.csv", made, ("title", "the body", "kind"))
    found = sortal.train(
        data,
        model=str(tiny),
        out=str(tmp_path / "run"),
        text="the body",
        label="kind",
        **{**QUICK, "epochs": 0},
    )
    assert found.meta["schema"]["text"] == ["the body"]


def test_training_works_outside_the_main_thread(tiny, tmp_path):
    data = write_csv(tmp_path / "d.csv", rows(40))
    found: list[Any] = []

    def work() -> None:
        found.append(sortal.train(data, model=str(tiny), out=str(tmp_path / "run"), **QUICK))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(found[0], sortal.Classifier)


def test_names_are_found_lazily():
    assert {"train", "load", "Classifier"} <= set(sortal.__all__)
    with pytest.raises(AttributeError, match="module 'sortal' has no attribute 'nothing'"):
        sortal.nothing  # noqa: B018


def test_the_functions_of_the_package_stay_functions_whatever_was_imported():
    """A subpackage of the same name would take a function's place as soon as it is imported."""
    from importlib import import_module
    from pkgutil import walk_packages

    names = {module.name for module in walk_packages(sortal.__path__, "sortal.")}
    assert not names & {f"sortal.{name}" for name in sortal.__all__}
    for name in ("compare", "load", "report", "train"):
        import_module(getattr(sortal, name).__module__)
        assert callable(getattr(sortal, name))
