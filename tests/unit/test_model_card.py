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
}


def test_the_card_states_weights_rows_seed_and_intervals():
    card = model_card(META, METRICS)
    for fact in ("2 labels", "org/base", "MIT", "de-quantised from Q4", "1,234 test rows", "seed 3"):
        assert fact in card
    assert "| accuracy | 0.5000 | 0.4000 – 0.6000 |" in card
    assert "| f1_macro | 0.2500 | – |" in card
    assert "temperature 1.250" in card
    assert "thresholds" not in card


def test_the_card_names_what_a_plain_pipeline_does_not_know():
    meta = META | {"task": "multi", "decision": {"temperature": 1.0, "thresholds": [0.3, 0.4]}}
    card = model_card(meta, METRICS)
    assert "| f1_micro | 0.7500 |" in card
    assert "thresholds tuned on dev" in card
    assert "below 0.9 the answer is null" in model_card(
        META | {"decision": {"temperature": 1.0, "abstain_below": 0.9}}, METRICS
    )


@pytest.mark.parametrize("method", REGISTRY)
def test_every_method_has_a_card_and_without_a_base_it_says_so(method):
    card = model_card(META | {"method": method}, METRICS)
    assert f"Method `{method}` on `org/base`" in card
    card = model_card(META | {"method": method, "base_model": None}, METRICS)
    assert f"Method `{method}`, without a pretrained model." in card
    assert "licence" not in card
