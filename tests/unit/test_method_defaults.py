from __future__ import annotations

import pytest

from sortal.comparison.cells import plan
from sortal.config import applies, build_config, resolve_sizes
from sortal.errors import ConfigError

OWN = ("learning_rate", "head_learning_rate", "warmup_ratio", "lr_scheduler_type")


def values(**settings):
    config = build_config(settings)
    return tuple(getattr(config, name) for name in OWN)


def test_a_fully_tuned_encoder_has_its_own_recipe():
    assert values(method="encoder") == (5e-5, 1e-3, 0.1, "linear")
    assert build_config({"method": "encoder"}).model == "minilm-l6"


def test_adapters_have_one_recipe_but_for_the_learning_rate_of_an_encoder():
    assert values(method="instruct") == values() == (2e-3, 2e-3, 0.05, "cosine")
    assert values(method="encoder", tuning="lora") == (5e-4, *values()[1:])
    assert build_config({}).base_model == "smollm2-135m"


def test_what_is_given_wins_also_when_it_is_the_default_of_other_methods():
    assert values(method="encoder", learning_rate=2e-3) == (2e-3, 1e-3, 0.1, "linear")
    assert build_config({"method": "encoder", "model": "smollm2-135m"}).model == "smollm2-135m"


def test_a_resolved_config_keeps_them():
    resolved = resolve_sizes(build_config({"method": "encoder"}), 9000)
    assert (resolved.learning_rate, resolved.model) == (5e-5, "minilm-l6")


@pytest.mark.parametrize(("rows", "epochs"), [(100_000, 5), (500, 12), (30, 20)])
def test_an_encoder_gets_at_least_five_epochs(rows, epochs):
    assert resolve_sizes(build_config({"method": "encoder"}), rows).epochs == epochs
    assert resolve_sizes(build_config({}), rows).epochs == max(3, epochs if rows < 9000 else 3)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"method": "head", "tuning": "lora"}, "tuning is for method encoder"),
        ({"method": "instruct", "pooling": "mean"}, "pooling is for method encoder or head or probe"),
        ({"method": "head", "pooling": "own"}, "pooling 'own' is not for head: use auto, last, mean"),
        ({"method": "encoder", "pooling": "last"}, "pooling 'last' is not for encoder: use auto, own, mean"),
        ({"method": "encoder", "keep_layers": 3}, "keep_layers is for method head"),
        ({"method": "head", "keep_layers": 0}, "keep_layers"),
        ({"method": "head", "bidirectional": True}, "bidirectional is for method probe"),
        ({"method": "probe", "epochs": 2}, "epochs is for methods that tune the model, and probe leaves it"),
        ({"method": "probe", "lora_r": 2, "batch_size": 4}, "lora_r, batch_size are for methods"),
        ({"method": "probe", "templates": []}, "templates is empty"),
        ({"method": "probe", "templates": ["summary", "no place"]}, "template 'no place' must be"),
        ({"method": "tfidf", "probe_rows": 9}, "probe_rows is for method head or probe"),
        ({"method": "head", "encoder_dropout": 0.1}, "encoder_dropout is for method encoder"),
        ({"method": "encoder", "shots": 1}, "shots is for method instruct"),
        ({"method": "encoder", "template": "summary"}, "template is for methods head, instruct and probe"),
        (
            {"method": "encoder", "quantization": "nf4"},
            "quantization is for methods head, instruct and probe",
        ),
        ({"method": "encoder", "shard_base": True}, "shard_base is for methods head, instruct and probe"),
        ({"method": "encoder", "lora_r": 4}, "lora_r has no effect with tuning 'full'"),
        ({"method": "encoder", "tuning": "lora", "encoder_dropout": 0.1}, "use lora_dropout"),
        ({"method": "encoder", "tuning": "some"}, "tuning: Input should be 'full' or 'lora'"),
    ],
)
def test_settings_without_effect_are_refused(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        build_config(settings)


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("tuning", {"encoder"}),
        ("shots", {"instruct"}),
        ("pooling", {"head", "probe", "encoder"}),
        ("keep_layers", {"head"}),
        ("probe_rows", {"head", "probe"}),
        ("template", {"head", "instruct", "probe"}),
        ("model", {"head", "instruct", "probe"}),
        ("max_length", {"head", "instruct", "probe", "encoder"}),
        ("epochs", {"head", "instruct", "encoder"}),
        ("seed", {"head", "instruct", "probe", "encoder", "tfidf", "majority"}),
    ],
)
def test_a_comparison_gives_each_method_the_settings_it_has(name, methods):
    known = ("head", "instruct", "probe", "encoder", "tfidf", "majority")
    assert {method for method in known if applies(name, method)} == methods


def test_a_comparison_tells_the_causal_model_from_the_encoder(tmp_path):
    named = plan({"model": "causal", "encoder.model": "two-way"}, ["head", "encoder"], 1, tmp_path)
    assert [cell.config.base_model for cell in named] == ["causal", "two-way"]
    plain = plan({"model": "causal"}, ["head", "encoder"], 1, tmp_path)
    assert [cell.config.base_model for cell in plain] == ["causal", "minilm-l6"]
