"""``sortal config``: what it prints is what ``--config`` reads."""

from __future__ import annotations

import json

import pytest
import yaml

from sortal.cli.main import main
from sortal.config import RunConfig, build_config
from sortal.config_files import load_config

SETTINGS = [
    "epochs=2",
    "text=[title, 'the body: text', 'a, b']",
    'text_template="{title}\\n\\n{body}  # not a comment"',
    "label_delimiter=|",
    "task=multi",
    "template=In one word, 'what' \"is\" it? {text} →",
    "class_weight={a: 2, 'b: c': 0.5}",
    "out=runs/é " + "x" * 200,
]


def test_show_prints_every_setting_as_yaml_that_is_read_back(tmp_path, capsys):
    words = [word for pair in SETTINGS for word in ("--set", pair)]
    assert main(["config", "show", *words]) == 0
    shown = capsys.readouterr().out
    assert list(yaml.safe_load(shown)) == list(RunConfig.model_fields)
    assert len(shown.splitlines()) == len(RunConfig.model_fields), "one line each, with what it means"
    assert any(line.startswith("lora_r: 8  # rank of the adapters") for line in shown.splitlines())
    file = tmp_path / "c.yaml"
    file.write_text(shown, encoding="utf-8")
    config = load_config(file)
    assert config.text == ("title", "the body: text", "a, b")
    assert config.text_template == "{title}\n\n{body}  # not a comment"
    assert config.label_delimiter == "|"
    assert config.class_weight == {"a": 2.0, "b: c": 0.5}
    assert config.out == "runs/é " + "x" * 200
    assert main(["config", "validate", str(file)]) == 0
    assert main(["config", "show", str(file)]) == 0
    assert capsys.readouterr().out == shown


def test_show_without_a_file_shows_the_defaults(capsys):
    assert main(["config", "show"]) == 0
    assert build_config(yaml.safe_load(capsys.readouterr().out)) == build_config({})


def test_schema_is_json_with_every_key(capsys):
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(RunConfig.model_fields)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        ("epoch: 2", [], "unknown key 'epoch'; did you mean 'epochs'?"),
        ("epochs: 2", ["--set", "epochs=x"], "epochs: Input should be a valid integer"),
        ("task: multi", ["--set", "abstain_below=0.5"], "abstain_below is for single-label tasks"),
    ],
)
def test_validate_finds_what_train_would(tmp_path, capsys, text, words, reason):
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["config", "validate", str(file), *words]) == 2
    assert reason in capsys.readouterr().err


def test_a_valid_file_is_said_to_be_valid(tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 2\n", encoding="utf-8")
    assert main(["config", "validate", str(file)]) == 0
    assert capsys.readouterr() == ("", f"{file} is valid\n")
