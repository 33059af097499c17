"""F6: a run is resumed with its own data, labels, model, seed and settings, or with a said change."""

import json
from dataclasses import replace

import pytest

from sortal.config import RunConfig
from sortal.errors import CheckpointError
from sortal.training.identity import (
    NOT_IN_RESULT,
    RunIdentity,
    check_same_run,
    differences,
    result_settings,
)

SAVED = RunIdentity(
    data={"train": "a" * 64, "dev": "b" * 64},
    labels=("bad", "good"),
    base_model="smollm2-135m",
    revision=None,
    seed=0,
    settings={"learning_rate": 1e-4, "lora_targets": ("q_proj",)},
)


def test_the_same_run_after_a_round_trip_through_json():
    restored = RunIdentity.from_json(json.loads(json.dumps(SAVED.to_json())))
    assert differences(SAVED, restored) == []
    assert check_same_run(restored, SAVED) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"data": {"train": "c" * 64, "dev": "b" * 64}}, "train data: aaaaaaaaaaaa… → cccccccccccc…"),
        ({"data": {"train": "a" * 64}}, "dev data: bbbbbbbbbbbb… → absent"),
        ({"data": {**SAVED.data, "test": "d" * 64}}, "test data: absent → dddddddddddd…"),
        ({"labels": ("bad", "good", "so")}, "labels: 1 added (so)"),
        ({"labels": ("bad", "ok")}, "labels: 1 added (ok), 1 removed (good)"),
        ({"labels": ("bad", "good", *"123456")}, "labels: 6 added (1, 2, 3, 4, 5, …)"),
        ({"labels": ("good", "bad")}, "labels: the same names in another order"),
        ({"base_model": "gemma-3-270m"}, "base model: smollm2-135m → gemma-3-270m"),
        ({"revision": "abc"}, "revision: none → abc"),
        ({"seed": 1}, "seed: 0 → 1"),
        ({"settings": {**SAVED.settings, "learning_rate": 0.5}}, "learning_rate: 0.0001 → 0.5"),
        ({"settings": {**SAVED.settings, "lora_r": 8}}, "lora_r: absent → 8"),
    ],
)
def test_a_change_is_named_and_refused_unless_forced_f6(change, line):
    now = replace(SAVED, **change)
    assert differences(SAVED, now) == [line]
    with pytest.raises(CheckpointError) as caught:
        check_same_run(SAVED, now, force=False)
    assert line in caught.value.what
    assert check_same_run(SAVED, now, force=True) == [line]


def test_every_difference_is_in_the_message_f6():
    with pytest.raises(CheckpointError, match=r"base model: .*; seed: 0 → 5"):
        check_same_run(SAVED, replace(SAVED, base_model="x", seed=5))


@pytest.mark.parametrize("value", [{}, {"labels": []}, {**SAVED.to_json(), "extra": 1}])
def test_an_incomplete_identity_is_refused(value):
    with pytest.raises(CheckpointError, match="incomplete"):
        RunIdentity.from_json(value)


def test_settings_that_change_the_result_are_all_the_others():
    dumped = RunConfig().model_dump()
    assert set(dumped) >= NOT_IN_RESULT
    assert set(result_settings(dumped)) == set(dumped) - NOT_IN_RESULT
    assert {"learning_rate", "lora_r", "template", "max_length", "epochs"} <= set(result_settings(dumped))
