"""The one model of settings: names, types, limits, YAML, ``key=value`` and which wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sortal.config import RunConfig, build_config, resolve_sizes
from sortal.config_files import load_config, parse_assignments, read_yaml
from sortal.config_sections import BASELINES
from sortal.data.problems import nearest
from sortal.errors import ConfigError


def refused(*parts: str, **values: Any) -> None:
    with pytest.raises(ConfigError) as error:
        build_config(values)
    for part in parts:
        assert part in str(error.value)


def test_the_defaults_are_valid_and_frozen():
    config = build_config({})
    assert (config.base_model, config.method, config.task) == ("smollm2-135m", "head", "auto")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1


def test_every_field_without_a_telling_name_explains_itself():
    schema = RunConfig.model_json_schema()["properties"]
    obvious = {"weight_decay", "lr_scheduler_type", "max_grad_norm", "label_smoothing", "focal_gamma", "seed"}
    obvious |= {"metric_for_best_model", "temperature_scaling", "threshold_metric"}
    assert {name for name, field in schema.items() if "description" not in field} <= obvious


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("learningrate", "learning_rate"),
        ("epoch", "epochs"),
        ("labels", "label"),
        ("max_len", "max_length"),
        ("batchsize", "batch_size"),
        ("label-columns", "label_columns"),
    ],
)
def test_an_unknown_key_names_the_nearest(given, meant):
    refused(f"unknown key {given!r}; did you mean {meant!r}?", **{given: 1})


def test_all_unknown_keys_are_named_at_once():
    refused("unknown key 'epoch'", "unknown key 'lerning_rate'", epoch=1, lerning_rate=2)
    assert nearest("zzz", ["learning_rate"]) == ""


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("epochs", "two", "valid integer"),
        ("epochs", 2.5, "fractional"),
        ("epochs", -1, "greater than or equal to 0"),
        ("epochs", True, "should not be true or false"),
        ("learning_rate", 0, "greater than 0"),
        ("learning_rate", float("inf"), "finite"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", [1], "valid number"),
        ("batch_size", 0, "greater than or equal to 1"),
        ("dev_size", 1, "less than 1"),
        ("seed", 2**32, "less than 4294967296"),
        ("seed", -1, "greater than or equal to 0"),
        ("quantization", "int8", "'none' or 'nf4'"),
        ("label", True, "should not be true or false"),
        ("label", ["a"], "valid string"),
        ("text", {"a": 1}, "valid tuple"),
        ("class_weight", {"a": -1}, "greater than or equal to 0"),
        ("class_weight", "heavy", "'none' or 'balanced'"),
        ("pos_weight", 0, "greater than 0"),
        ("pos_weight", {"a": "x"}, "valid number"),
        ("temperature_scaling", "perhaps", "valid boolean"),
        ("n_resamples", 5, "greater than or equal to 100"),
        ("lora_dropout", 1.0, "less than 1"),
        ("max_length", 4, "greater than or equal to 8"),
    ],
)
def test_a_wrong_type_or_value_names_key_reason_and_what_was_given(key, value, reason):
    refused(f"{key}: ", reason, f"(got {value!r}" if not isinstance(value, dict) else "(got ", **{key: value})


@pytest.mark.parametrize(
    ("reason", "values"),
    [
        ("label_columns cannot be combined", {"label_columns": ["a"], "label": "b"}),
        ("label_columns cannot be combined", {"label_columns": ["a"], "label_delimiter": ";"}),
        ("task 'single' contradicts", {"task": "single", "label_delimiter": ";"}),
        ("task 'single' contradicts", {"task": "single", "label_columns": ["a", "b"]}),
        ("less than a tenth", {"dev_size": 0.5, "test_size": 0.4}),
        ("containing {text} exactly once", {"template": "no place for it"}),
        ("containing {text} exactly once", {"template": "{text} and {text}"}),
        ("once, before {text}", {"template": "{text} is one of {labels}"}),
        ("once, before {text}", {"template": "{labels} or {labels}: {text}"}),
        ("is for methods head and instruct", {"method": "probe", "template": "{labels}: {text} is"}),
        ("must be 'summary', 'topic', 'eos' or", {"method": "probe", "template": "labels"}),
        ("verbalizer has no effect", {"verbalizer": "label", "score_init": "random"}),
        ("abstain_below is for single-label", {"task": "multi", "abstain_below": 0.5}),
        ("pos_weight is for multi-label", {"task": "single", "pos_weight": 2.0}),
        ("focal_gamma has no effect", {"focal_gamma": 1.0}),
        ("needs quantization 'nf4'", {"nf4_backend": "bitsandbytes"}),
    ],
)
def test_an_impossible_combination_is_refused(reason, values):
    refused(reason, **values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"text": "body"}, {"text": ("body",)}),
        ({"text": "one, column"}, {"text": ("one, column",)}),
        ({"text": ["a", "b"]}, {"text": ("a", "b")}),
        ({"label_columns": "a,b"}, {"label_columns": ("a", "b")}),
        ({"label": 2024}, {"label": "2024"}),
        ({"epochs": "3"}, {"epochs": 3}),
        ({"pos_weight": 2}, {"pos_weight": 2.0}),
        (
            {"template": "labels", "verbalizer": "label", "score_init": "random"},
            {"lists_labels": True},
        ),
        ({"template": "{labels}: {text} is"}, {"lists_labels": True}),
        ({"method": "instruct", "template": "{labels}: {text}"}, {"lists_labels": False}),
        ({"class_weight": {"a": 2}}, {"class_weight": {"a": 2.0}}),
    ],
)
def test_what_is_meant_is_understood(values, expected):
    config = build_config(values)
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("epochs=2", 2),
        ("learning_rate=3e-4", 0.0003),
        ("learning_rate=1E-3", 0.001),
        ("text=[title, body]", ["title", "body"]),
        ("text=title", "title"),
        ("class_weight={a: 2, b: 0.5}", {"a": 2, "b": 0.5}),
        ("temperature_scaling=false", False),
        ("abstain_below=null", None),
        ("label_delimiter=|", "|"),
        ("label_delimiter=#", "#"),
        ("label_delimiter=null", None),
        ("label=a=b", "a=b"),
        ("label=2024", "2024"),
        ("label=1e3", "1e3"),
        ("template=Say it: {text}", "Say it: {text}"),
        ('text_template="{a}\\n{b}"', "{a}\n{b}"),
        ("out=", ""),
    ],
)
def test_assignments_are_yaml_except_names_and_templates(pair, expected):
    (value,) = parse_assignments([pair]).values()
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("pair", ["epochs", "=3", " =3"])
def test_an_assignment_without_a_key_or_value_is_refused(pair):
    with pytest.raises(ConfigError, match=r"is not key=value\n→ write --set learning_rate=0\.0003"):
        parse_assignments([pair])


def put(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_is_read_and_later_ones_win(tmp_path):
    path = put(tmp_path, "epochs: 7\nlearning_rate: 2e-4\nlabel: 1e3\nseed: 5\n")
    config = load_config(path, {"seed": 6})
    assert (config.epochs, config.learning_rate, config.label, config.seed) == (7, 0.0002, "1e3", 6)
    assert config.batch_size is None
    assert load_config() == build_config({})
    assert load_config(put(tmp_path, "# nothing\n")) == build_config({})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("epochs: [1", "is not valid YAML"),
        ("- epochs", "holds a list, not key: value pairs"),
        ("just words", "holds a str, not key: value pairs"),
        ("!!python/object/apply:os.system ['touch pwned']", "is not valid YAML"),
        ("epoch: 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("epochs: x", "epochs: Input should be a valid integer"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_it(tmp_path, monkeypatch, text, reason):
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(path) in str(error.value)
    assert reason in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


def test_an_unknown_key_of_the_file_names_the_file_also_with_flags(tmp_path):
    path = put(tmp_path, "epoch: 3")
    with pytest.raises(ConfigError, match=r"c\.yaml: unknown key 'epoch'"):
        load_config(path, {"seed": 1})


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("label: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_yaml(tmp_path / "latin.yaml")


@pytest.mark.parametrize("rows", [1, 40, 499, 500, 4999, 5000, 10**6])
def test_sizes_left_open_are_filled_in_by_the_number_of_rows(rows):
    sizes = resolve_sizes(build_config({}), rows)
    steps = -(-rows // sizes.batch_size) * sizes.epochs
    assert 3 <= sizes.epochs <= 20
    assert sizes.batch_size in (8, 16, 32)
    assert steps >= 350 or sizes.epochs == 20
    given = resolve_sizes(build_config({"epochs": 0, "batch_size": 5}), rows)
    assert (given.epochs, given.batch_size) == (0, 5)
    assert resolve_sizes(build_config({"seed": 3}), rows).seed == 3


def test_settling_fills_in_the_model_and_changes_nothing_twice():
    settled = resolve_sizes(build_config({"batch_size": 5}), 40)
    assert settled.model == "smollm2-135m"
    assert resolve_sizes(build_config({"model": "org/other"}), 40).model == "org/other"
    assert resolve_sizes(settled, 10**6) == settled


def needed(method):
    """The least that a run of ``method`` has to be told."""
    return {"method": method, **({"members": ("runs/a", "runs/b")} if method == "ensemble" else {})}


@pytest.mark.parametrize("method", sorted(BASELINES))
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "smollm2-135m"),
        ("quantization", "nf4"),
        ("template", "eos"),
        ("max_length", 64),
        ("truncation", "tail"),
        ("lora_r", 4),
        ("epochs", 3),
        ("learning_rate", 1e-3),
        ("class_weight", "balanced"),
    ],
)
def test_a_baseline_refuses_settings_of_a_pretrained_model(method, name, value):
    refused(
        f"{name} is for methods that tune a pretrained model, and {method} has none",
        **{**needed(method), name: value},
    )


def test_settings_that_do_not_apply_are_named_at_once():
    refused("model, epochs are for methods", method="tfidf", model="a", epochs=2)
    refused("score_tolerance is for method instruct", method="tfidf", score_tolerance=0.0)


@pytest.mark.parametrize("method", sorted(BASELINES))
def test_a_baseline_takes_the_settings_of_data_choice_and_decision(method):
    values = {
        "seed": 3,
        "threads": 1,
        "metric_for_best_model": "accuracy",
        "abstain_below": 0.5,
        "dev_size": 0.2,
    }
    config = build_config({**needed(method), **values})
    assert build_config(config.model_dump(mode="json")) == config


def test_the_json_form_is_valid_input_again():
    config = build_config(
        {"text": ["a", "b"], "class_weight": {"x": 2.0}, "epochs": 1, "label_delimiter": "|"}
    )
    values = json.loads(json.dumps(config.model_dump(mode="json")))
    assert build_config(values) == config
    assert build_config(yaml.safe_load(yaml.safe_dump(values))) == config
