"""Parameters of the estimator as settings of a run."""

from __future__ import annotations

import numpy as np
import pytest

from sortal import SortalClassifier
from sortal.config import RunConfig, build_config
from sortal.errors import ConfigError, InputError
from sortal.estimator.answers import read_answers
from sortal.estimator.settings import SAME, run_config
from sortal.estimator.targets import Targets

TARGETS = Targets.learn(read_answers([0, 1], 2))


def config(split=True, targets=TARGETS, **parameters):
    return run_config(SortalClassifier(**parameters).get_params(), targets, split=split, out="o")


def test_left_alone_it_is_the_run_of_the_command_line_without_a_test_part():
    fixed = {"task": "single", "test_size": 0.0, "out": "o"}
    for method in ("head", "encoder", "tfidf", "instruct"):
        assert config(method=method) == build_config({"method": method, **fixed})


def test_parameters_are_settings_and_any_other_setting_is_reached():
    assert set(SAME) <= set(RunConfig.model_fields)
    found = config(
        model="m", epochs=2, learning_rate=0.5, lora_r=4, validation_fraction=0.25, random_state=np.int64(7),
        settings={"keep_layers": 1, "max_train_rows": 9},
    )  # fmt: skip
    assert (found.model, found.epochs, found.learning_rate, found.lora_r) == ("m", 2, 0.5, 4)
    assert (found.dev_size, found.seed, found.keep_layers, found.max_train_rows) == (0.25, 7, 1, 9)


def test_a_preset_fills_in_what_is_not_given():
    assert config(preset="best").members == ("head", "encoder", "tfidf")
    assert config(preset="fast", settings={"lora_top_layers": 3}).lora_top_layers == 3


def test_class_weights_are_given_by_the_callers_labels():
    assert config(class_weight={0: 1, 1: 3.5}).class_weight == {"0": 1, "1": 3.5}
    assert config(class_weight="balanced").class_weight == "balanced"


def test_the_seed_is_given_or_drawn():
    assert config(random_state=5).seed == 5
    assert (
        config(random_state=np.random.RandomState(1)).seed
        == config(random_state=np.random.RandomState(1)).seed
    )
    np.random.seed(3)
    drawn = [config(random_state=None).seed for _ in range(2)]
    np.random.seed(3)
    assert drawn[0] != drawn[1]
    assert drawn == [config(random_state=None).seed for _ in range(2)]


@pytest.mark.parametrize(
    ("parameters", "error", "reason"),
    [
        ({"method": "svm"}, ConfigError, "SortalClassifier: method: .*got 'svm'"),
        (
            {"settings": {"keep_layer": 3}},
            ConfigError,
            "unknown key 'keep_layer'; did you mean 'keep_layers'",
        ),
        ({"settings": {"epochs": 3}, "epochs": 2}, InputError, "'epochs' is a parameter and in settings"),
        ({"settings": {"seed": 3}}, InputError, r"'seed' has a parameter of its own\n→ give random_state"),
        ({"settings": {"label": "x"}}, InputError, "'label' is about files, and fit takes rows"),
        ({"settings": {"out": "x"}}, InputError, "'out' is about files"),
        ({"validation_fraction": 0}, InputError, "validation_fraction is 0\n→ give a share"),
        ({"validation_fraction": "a"}, InputError, "validation_fraction is 'a'"),
        ({"on_abstain": "skip"}, InputError, "on_abstain is 'skip'\n→ use 'return_none'"),
        ({"method": "tfidf", "epochs": 2}, ConfigError, "epochs is for methods that tune a pretrained model"),
        ({"random_state": -1}, ConfigError, "seed: Input should be greater"),
    ],
)
def test_what_cannot_be_is_refused(parameters, error, reason):
    with pytest.raises(error, match=reason):
        config(**parameters)


def test_abstaining_is_for_one_label_per_row():
    several = Targets.learn(read_answers([[1, 0], [0, 1]], 2))
    with pytest.raises(ConfigError, match="abstain_below is for single-label tasks"):
        config(targets=several, abstain_below=0.5)


def test_the_share_of_dev_rows_does_not_matter_when_they_are_given():
    assert (
        config(split=False, validation_fraction=None).dev_size == RunConfig.model_fields["dev_size"].default
    )
