from __future__ import annotations

import pytest

from sortal.methods import REGISTRY
from sortal.model_card import model_card

META = {
    "task": "single",
    "labels": ["a", "b"],
    "method": "head",
    "seed": 3,
    "base_model": {"spec": "org/base", "licence": "MIT", "note": "de-quantised from Q4"},
    "decision": {"temperature": 1.25, "thresholds": None, "abstain_below": None},
    "versions": {"sortal": "9.9"},
}
METRICS = {
    "n": 1234,
    "accuracy": 0.5,
    "f1_micro": 0.75,
    "f1_macro": 0.25,
    "ece": 0.125,
    "intervals": {"accuracy": [0.4, 0.6], "f1_macro": None},
    "interval_method": "bootstrap",
    "task": "single",
    "per_label": [
        {"label": "a|b", "precision": 0.5, "recall": 0.75, "f1": 0.6, "support": 1230, "predicted": 1234},
        {"label": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 4, "predicted": 0},
    ],
    "calibration_bins": [{"low": 0.0, "high": 1.0, "count": 1234, "confidence": 0.625, "accuracy": 0.5}],
}
RECORD = {
    "config": {"epochs": 3, "batch_size": 16, "lora_r": 8, "truncation": "head"},
    "data": {
        part: {"rows": rows, "fingerprint": f"{part}-hash", "source": "file.csv"}
        for part, rows in (("train", 2000), ("dev", 200), ("test", 1234))
    },
    "training": {"truncated_train_rows": 50},
}


def test_the_card_states_weights_rows_seed_and_intervals():
    card = model_card(META, METRICS, RECORD)
    for fact in ("2 labels", "org/base", "MIT", "de-quantised from Q4", "1,234 test rows", "seed 3"):
        assert fact in card
    assert "| accuracy | 0.5000 | 0.4000 – 0.6000 |" in card
    assert "| f1_macro | 0.2500 | – |" in card
    assert "temperature 1.250" in card
    assert "thresholds" not in card


def test_the_card_names_what_a_plain_pipeline_does_not_know():
    meta = META | {"task": "multi", "decision": {"temperature": 1.0, "thresholds": [0.3, 0.4]}}
    card = model_card(meta, METRICS, RECORD)
    assert "| f1_micro | 0.7500 |" in card
    assert "thresholds tuned on dev" in card
    assert "below 0.9 the answer is null" in model_card(
        META | {"decision": {"temperature": 1.0, "abstain_below": 0.9}}, METRICS, RECORD
    )


@pytest.mark.parametrize("method", REGISTRY)
def test_every_method_has_a_card_and_without_a_base_it_says_so(method):
    card = model_card(META | {"method": method}, METRICS, RECORD)
    assert f"Method `{method}` on `org/base`" in card
    card = model_card(META | {"method": method, "base_model": None}, METRICS, RECORD)
    assert f"Method `{method}`, without a pretrained model." in card
    assert "licence" not in card


def test_the_card_says_what_it_was_trained_on_and_how():
    card = model_card(META | {"max_length": 128}, METRICS, RECORD)
    assert "| train | 2,000 | train-hash |" in card
    assert "epochs 3, batch_size 16, lora_r 8, truncation head, max_length 128" in card
    baseline = RECORD | {"training": {"model": "svm", "c": 0.3}}
    card = model_card(META | {"method": "tfidf", "base_model": None}, METRICS, baseline)
    assert "seed 3: model svm, c 0.3." in card


def test_limits_follow_from_the_measurements():
    card = model_card(META, METRICS, RECORD)
    assert "12.5 points off on average (ECE 0.125)" in card
    assert "fewer than 10 test rows, whose own figures say little: 1 of 2" in card
    assert "never given: 1 (b)" in card
    assert "2.5% of the training texts were longer" in card
    fine = METRICS | {"per_label": METRICS["per_label"][:1]}
    card = model_card(META, fine, RECORD | {"training": {}})
    assert "fewer than 10" not in card
    assert "never given" not in card
    assert "longer than the model reads" not in card


def test_the_card_warns_of_training_texts_in_the_folder():
    """Examples that are chosen for each text are kept with the model."""
    assert "reads 8 training rows" in model_card(META | {"nearest_shots": 8}, METRICS, RECORD)
    assert "training rows: the folder holds" not in model_card(META, METRICS, RECORD)


def test_labels_are_listed_worst_first_escaped_and_bounded():
    lines = model_card(META, METRICS, RECORD).splitlines()
    assert lines.index("| b | 0.000 | 0.000 | 0.000 | 4 |") + 1 == lines.index(
        "| a\\|b | 0.600 | 0.500 | 0.750 | 1,230 |"
    )
    many = [METRICS["per_label"][0] | {"label": f"l{k}", "f1": k / 100} for k in range(40)]
    card = model_card(META, METRICS | {"per_label": many}, RECORD)
    assert "10 others are left out" in card
    assert "| l29 |" in card
    assert "| l30 |" not in card
