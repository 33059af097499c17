"""Labels of the embedding head, end to end on tiny random models: S7, S8, S10."""

from __future__ import annotations

import numpy as np
import pytest

import sortal
from head_runs import TOPICS, read_json
from sortal.errors import DataError
from tiny_runs import HARD_TEXTS, edit_json, fit, write_csv


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    lines = [(f"{text} {i}", labels) for i in range(12) for text, labels in TOPICS]
    return write_csv(tmp_path_factory.mktemp("data") / "topics.csv", lines)


# S7


@pytest.mark.parametrize(
    "labels",
    [
        ("zebra", "apple", "Mango"),
        ("10", "9", "2", "1"),
        ("ärger", "Zufrieden", "好", "ñ a"),
        ("b", "a", "c", "B"),
    ],
)
def test_s7_one_label_order_everywhere(tiny, tmp_path, labels):
    import pyarrow.parquet as pq
    from transformers import AutoConfig

    lines = [(f"{'xyzw'[i % len(labels)] * 8} {i}", labels[i % len(labels)]) for i in range(60)]
    result = fit(write_csv(tmp_path / "data.csv", lines), tiny, tmp_path / "run", epochs=8, batch_size=4)
    classifier, model = result.classifier, tmp_path / "run" / "model"
    names = classifier.classes_
    assert set(names) == set(labels)
    assert tuple(read_json(model / "sortal.json")["labels"]) == names
    assert AutoConfig.from_pretrained(model).id2label == dict(enumerate(names))
    assert sortal.load(model).classes_ == names
    columns = pq.read_table(result.folder / "predictions.parquet").column_names
    assert [c for c in columns if c.startswith("p:")] == [f"p:{name}" for name in names]
    texts = [text for text, _ in lines]
    probabilities = classifier.predict_proba(texts)
    assert [names[i] for i in probabilities.argmax(1)] == classifier.predict(texts)
    right = np.mean([a == b for a, b in zip(classifier.predict(texts), (x for _, x in lines), strict=True)])
    assert right > 0.9, "each column belongs to its label: these letters are easily learnt"


# S8


@pytest.mark.parametrize("labels", [("yes", "no"), ("a", "b", "c")])
def test_s8_a_single_label_answer_is_exactly_one_label(tiny, tmp_path, labels):
    lines = [(f"{'xyz'[i % len(labels)] * 5} {i}", labels[i % len(labels)]) for i in range(45)]
    result = fit(write_csv(tmp_path / "data.csv", lines), tiny, tmp_path / "run")
    assert (
        read_json(tmp_path / "run" / "model" / "config.json")["problem_type"] == "single_label_classification"
    )
    for classifier in (result.classifier, sortal.load(tmp_path / "run" / "model")):
        probabilities = classifier.predict_proba(list(HARD_TEXTS))
        assert probabilities.shape == (len(HARD_TEXTS), len(labels))
        np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-9)
        assert all(answer in labels for answer in classifier.predict(list(HARD_TEXTS)))


def test_s8_one_single_label_class_is_refused_with_a_way_out(tiny, tmp_path):
    data = write_csv(tmp_path / "data.csv", [(f"text {i}", "only") for i in range(20)])
    with pytest.raises(DataError, match=r"needs at least two classes"):
        fit(data, tiny, tmp_path / "run")


def test_s8_multi_label_uses_sigmoids(tiny, topics, tmp_path):
    result = fit(topics, tiny, tmp_path / "run", label_delimiter="|", epochs=3)
    classifier, model = result.classifier, tmp_path / "run" / "model"
    assert read_json(model / "config.json")["problem_type"] == "multi_label_classification"
    scores = classifier.scorer.score(HARD_TEXTS)
    expected = 1 / (1 + np.exp(-scores.astype(np.float64) / classifier.decision.temperature))
    for found in (classifier, sortal.load(model)):
        np.testing.assert_allclose(found.predict_proba(list(HARD_TEXTS)), expected, atol=1e-6)
        assert all(isinstance(answer, tuple) for answer in found.predict(list(HARD_TEXTS)))


def test_s8_one_multi_label_label(tiny, tmp_path):
    lines = [("urgent now " * (i % 2) + f"text {i}", i % 2) for i in range(40)]
    data = write_csv(tmp_path / "data.csv", lines, ("text", "urgent"))
    result = fit(data, tiny, tmp_path / "run", label_columns=["urgent"], epochs=6)
    classifier, model = sortal.load(tmp_path / "run" / "model"), tmp_path / "run" / "model"
    assert classifier.classes_ == ("urgent",)
    assert read_json(model / "config.json")["problem_type"] == "multi_label_classification"
    probabilities = classifier.predict_proba(["urgent now text", "text"])
    assert probabilities.shape == (2, 1)
    np.testing.assert_allclose(
        probabilities, result.classifier.predict_proba(["urgent now text", "text"]), atol=1e-6
    )
    assert set(classifier.predict([text for text, _ in lines])) == {("urgent",), ()}


# S10


def test_s10_tuned_thresholds_are_saved_and_decide_everywhere(tiny, topics, tmp_path):
    import pyarrow.parquet as pq

    result = fit(topics, tiny, tmp_path / "run", label_delimiter="|", thresholds="per_label", epochs=2)
    model = tmp_path / "run" / "model"
    thresholds = read_json(model / "sortal.json")["decision"]["thresholds"]
    assert len(thresholds) == 2
    assert tuple(thresholds) == result.classifier.decision.thresholds
    # Thresholds nobody would take by accident, to see who reads them.
    decision = read_json(model / "sortal.json")["decision"]
    texts, chosen = [text for text, _ in TOPICS] * 3, []
    for limits in ([0.0, 1.0], [1.0, 0.0]):
        edit_json(model / "sortal.json", decision={**decision, "thresholds": limits})
        classifier = sortal.load(model)
        kept = tuple(n for n, limit in zip(classifier.classes_, limits, strict=True) if limit == 0)
        assert set(classifier.predict(texts)) == {kept}
        chosen.append(classifier.evaluate(topics, n_resamples=0))
    assert chosen[0]["f1_micro"] > 0
    recalls = [{row["label"]: row["recall"] for row in m["per_label"]} for m in chosen]
    assert recalls == [{"delivery": 1.0, "refund": 0.0}, {"delivery": 0.0, "refund": 1.0}]
    table = pq.read_table(result.folder / "predictions.parquet").to_pylist()
    columns = result.classifier.read(topics)
    by_id = dict(zip(columns.ids, columns.texts, strict=True))
    expected = result.classifier.predict([by_id[row["id"]] for row in table])
    assert [tuple(row["predicted"]) for row in table] == expected
