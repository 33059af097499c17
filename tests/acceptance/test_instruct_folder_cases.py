"""A model folder of method instruct that is not what it was is refused: B8, S3."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

import sortal
from instruct_runs import read_json
from sortal.cli.main import main
from sortal.errors import ModelError
from tiny_runs import edit_json


@pytest.fixture
def folder(runs, tmp_path):
    """A copy of a model folder to damage."""
    shutil.copytree(runs("label").model, tmp_path / "model")
    return tmp_path / "model"


def _prompt(folder, **changes):
    edit_json(folder / "sortal.json", prompt={**read_json(folder / "sortal.json")["prompt"], **changes})


def _turned(values):
    return [*values[1:], values[0]]


EDITS = {
    "label order": lambda f: edit_json(
        f / "sortal.json", labels=_turned(read_json(f / "sortal.json")["labels"])
    ),
    "config's label order": lambda f: edit_json(
        f / "config.json",
        id2label={str(i): n for i, n in enumerate(_turned(read_json(f / "sortal.json")["labels"]))},
    ),
    "one label more": lambda f: edit_json(
        f / "sortal.json", labels=[*read_json(f / "sortal.json")["labels"], "x"]
    ),
    "answers": lambda f: _prompt(f, answers=_turned(read_json(f / "sortal.json")["prompt"]["answers"])),
    "one answer": lambda f: _prompt(f, answers=["x", *read_json(f / "sortal.json")["prompt"]["answers"][1:]]),
    "one answer less": lambda f: _prompt(f, answers=read_json(f / "sortal.json")["prompt"]["answers"][1:]),
    "listed": lambda f: _prompt(f, listed=_turned(read_json(f / "sortal.json")["prompt"]["listed"])),
    "instruction": lambda f: _prompt(
        f, text={**read_json(f / "sortal.json")["prompt"]["text"], "before": "Do as you like:\n"}
    ),
    "cue": lambda f: _prompt(f, text={**read_json(f / "sortal.json")["prompt"]["text"], "after": "\nTopic:"}),
    "unknown part": lambda f: _prompt(f, text={**read_json(f / "sortal.json")["prompt"]["text"], "more": ""}),
    "shots": lambda f: _prompt(f, shots=[["a text", [0]]]),
    "form": lambda f: _prompt(f, form="each"),
    "no form": lambda f: _prompt(f, form="none"),
    "answers are a number": lambda f: _prompt(f, answers=7),
    "no prompt": lambda f: _without(f, "prompt"),
    "no scoring": lambda f: _without(f, "scoring"),
    "no dtype": lambda f: _without(f, "dtype"),
    "unknown dtype": lambda f: edit_json(f / "sortal.json", dtype="float7"),
    "unknown scoring": lambda f: edit_json(f / "sortal.json", scoring={"max_labels": 1, "sharpness": 2}),
    "tokenizer": lambda f: _edit_vocabulary(f),
    "adapter rank": lambda f: edit_json(f / "adapter_config.json", r=4),
    "adapter targets": lambda f: edit_json(f / "adapter_config.json", target_modules=["q_proj"]),
}


def _without(folder, key):
    meta = read_json(folder / "sortal.json")
    meta.pop(key)
    (folder / "sortal.json").write_text(json.dumps(meta), encoding="utf-8")


def _edit_vocabulary(folder):
    backend = read_json(folder / "tokenizer.json")
    vocabulary = backend["model"]["vocab"]
    vocabulary["g"], vocabulary["h"] = vocabulary["h"], vocabulary["g"]
    edit_json(folder / "tokenizer.json", model={**backend["model"], "vocab": vocabulary})


@pytest.mark.parametrize("edit", EDITS)
def test_b8_an_edited_folder_is_refused(folder, edit, capsys):
    EDITS[edit](folder)
    with pytest.raises(ModelError) as refused:
        sortal.load(folder)
    assert str(folder) in str(refused.value) or "the saved prompt is damaged" in str(refused.value)
    assert refused.value.fix
    assert main(["predict", str(folder), "-"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


A = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop(A), "lacks 1 of 28"),
        (lambda t: [t.pop(key) for key in list(t) if ".layers.1." in key], "lacks 14 of 28"),
        (lambda t: t.update({A.replace("layers.1", "layers.7"): t[A].clone()}), "no place for"),
    ],
)
def test_s3_missing_and_stray_adapter_tensors_are_refused(folder, change, complaint):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="SHA-256 differs"):
        sortal.load(folder)
    meta = read_json(folder / "sortal.json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_json(folder / "sortal.json", files={**meta["files"], path.name: digest})
    with pytest.raises(ModelError, match=complaint):
        sortal.load(folder)


def test_b8_another_base_is_refused(folder, bases, tmp_path):
    meta = read_json(folder / "sortal.json")
    tuned = shutil.copytree(bases["llama"], tmp_path / "tuned")
    weights = load_file(tuned / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] += 1e-3
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    for base in (bases["gpt2"], bases["qwen3"], tuned):
        edit_json(folder / "sortal.json", base_model={**meta["base_model"], "spec": str(base)})
        with pytest.raises(ModelError, match="was tuned on other weights"):
            sortal.load(folder)
