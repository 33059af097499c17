from __future__ import annotations

import pytest

from sortal.comparison.cells import plan
from sortal.config import RunConfig, applies, build_config, resolve_sizes
from sortal.config_presets import PRESETS, other_preset
from sortal.errors import ConfigError
from sortal.training.identity import result_settings


def test_a_preset_fills_in_settings_and_balanced_none():
    assert build_config({"preset": "fast"}).lora_top_layers == "half"
    best = build_config({"preset": "best"})
    assert (best.method, best.members) == ("ensemble", ("head", "encoder", "tfidf"))
    assert build_config({"preset": "best", "method": "head"}) == best
    assert build_config({"preset": "balanced"}) == build_config({})


@pytest.mark.parametrize("given", [7, None])
def test_what_is_given_wins_also_when_it_is_the_default(given):
    assert build_config({"preset": "fast", "lora_top_layers": given}).lora_top_layers == given


@pytest.mark.parametrize("blend", ["none", "auto", "tfidf"])
def test_what_the_best_preset_adds_is_not_said_twice(blend):
    with pytest.raises(ConfigError, match="preset 'best' says what is added to a head, and so does blend"):
        build_config({"preset": "best", "blend": blend})


def test_settings_beside_the_best_preset_go_to_the_members_that_have_them():
    best = build_config({"preset": "best", "model": "m", "lora_top_layers": "half", "epochs": 2, "seed": 3})
    found = {method: best.of_member(method) for method in best.members}
    assert [each.method for each in found.values()] == ["head", "encoder", "tfidf"]
    assert (found["head"].model, found["head"].lora_top_layers, found["head"].epochs) == ("m", "half", 2)
    assert (found["encoder"].model, found["encoder"].lora_top_layers, found["encoder"].epochs) == (
        build_config({"method": "encoder"}).model,
        None,
        2,
    )
    assert [each.seed for each in found.values()] == [3, 3, 3]
    assert {each.blend for each in found.values()} == {"none"}, "words are a member of their own"
    assert {each.preset for each in found.values()} == {"balanced"}


def test_resolving_sizes_keeps_what_won():
    resolved = resolve_sizes(build_config({"preset": "fast", "lora_top_layers": None}), 100)
    assert (resolved.preset, resolved.lora_top_layers) == ("fast", None)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_run_is_what_its_settings_say_however_they_were_given(preset):
    named, spelled = build_config({"preset": preset}), build_config(PRESETS[preset])
    assert result_settings(named.model_dump(mode="json")) == result_settings(spelled.model_dump(mode="json"))


@pytest.mark.parametrize("method", ["instruct", "encoder", "probe", "tfidf", "majority"])
def test_methods_that_were_not_measured_have_the_defaults_only(method):
    assert build_config({"method": method, "preset": "balanced"}) == build_config({"method": method})
    for preset in ("fast", "best"):
        with pytest.raises(ConfigError, match=f"preset '{preset}' is for method head, and no faster"):
            build_config({"method": method, "preset": preset})
    assert not applies("preset", method)


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="preset: Input should be 'fast', 'balanced' or 'best'"):
        build_config({"preset": "quick"})


def test_another_preset_takes_the_place_of_what_the_first_filled_in_and_leaves_what_was_given():
    asked = build_config({"preset": "fast", "epochs": 2, "blend": "tfidf"}).model_dump(exclude_unset=True)
    found = RunConfig.model_validate(other_preset(asked, "balanced"))
    assert (found.lora_top_layers, found.epochs, found.blend) == (None, 2, "tfidf")
    given = build_config({"lora_top_layers": 3}).model_dump(exclude_unset=True)
    assert RunConfig.model_validate(other_preset(given, "fast")).lora_top_layers == 3


def test_a_comparison_gives_a_preset_to_the_methods_that_have_it(tmp_path):
    cells = plan({"preset": "fast"}, ["tfidf", "encoder", "head", "head+tfidf"], 1, tmp_path)
    found = {cell.method: (cell.config.lora_top_layers, cell.config.blend) for cell in cells}
    assert found == {
        "tfidf": (None, "none"),
        "encoder": (None, "none"),
        "head": ("half", "none"),
        "head+tfidf": ("half", "tfidf"),
    }
    with pytest.raises(ConfigError, match="preset applies to none"):
        plan({"preset": "fast"}, ["tfidf", "encoder"], 1, tmp_path)


@pytest.mark.parametrize("key", ["preset", "head.preset"])
def test_in_a_comparison_the_best_preset_is_a_method_of_its_own(tmp_path, key):
    with pytest.raises(
        ConfigError, match=r"(?s)preset best adds.*compare head, encoder, tfidf and head\+encoder\+tfidf"
    ):
        plan({key: "best"}, ["head"], 1, tmp_path)
