from __future__ import annotations

import pytest

from sortal.config import RunConfig
from sortal.config_sections import BASELINES, NOT_TUNED
from sortal.errors import ModelError
from sortal.methods import REGISTRY, get_method


def test_every_registered_method_can_fit_and_load():
    for name in REGISTRY:
        method = get_method(name)
        assert callable(method.fit)
        assert callable(method.load)


def test_the_methods_of_the_config_are_the_registered_ones():
    assert set(RunConfig.model_fields["method"].annotation.__args__) == set(REGISTRY)


def test_the_methods_without_a_base_model_are_the_baselines_of_the_config():
    assert {name for name in REGISTRY if not get_method(name).has_base} == BASELINES


def test_the_methods_without_steps_are_those_that_refuse_settings_of_training():
    assert {name for name in REGISTRY if not get_method(name).in_steps} == NOT_TUNED


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ModelError, match=r"unknown method 'haed'; did you mean 'head'\?"):
        get_method("haed")
