"""The settings of the search's runs: what a variant's method has, and nothing that it would refuse."""

from __future__ import annotations

import pytest
from benchmarks.recipe.__main__ import settings_of
from benchmarks.recipe.variants import PLAIN, VARIANTS

from sortal.config import build_config

COMMON = {"data": "d.jsonl", "test": "t.jsonl", "text": "text", "task": "single", "threads": 1, "epochs": 2}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_can_be_run(variant, tmp_path):
    settings = settings_of(variant, 1, COMMON, tmp_path)
    config = build_config({key: value for key, value in settings.items() if key != "candidate"})
    assert (config.seed, config.threads, config.data) == (1, 1, "d.jsonl")
    own = {key: value for key, value in VARIANTS[variant].items() if key != "members"}
    assert own.items() <= settings.items()
    if config.method == "head":
        assert config.blend == VARIANTS[variant].get("blend", "none"), "a head alone, if nothing else is said"
        assert config.epochs == VARIANTS[variant].get("epochs", 2)


def test_a_sum_is_made_of_the_runs_of_its_seed(tmp_path):
    settings = settings_of("plain, tfidf and probe", 2, COMMON, tmp_path)
    runs = [settings_of(name, 2, COMMON, tmp_path)["out"] for name in (PLAIN, "tfidf", "probe")]
    assert list(settings["members"]) == runs
    assert settings["out"] == str(tmp_path / "plain-tfidf-and-probe-2")
