"""S3: a saved head gives its answers anywhere, and a folder that does not fit is refused."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import sortal
from head_runs import LABELS, head_runs, read_json
from sortal.errors import ModelError
from tiny_runs import (
    FAMILIES,
    HARD_TEXTS,
    edit_json,
    fit,
    rows,
    write_csv,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", rows(45, LABELS))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_models, data):
    return head_runs(tmp_path_factory, tiny_models, data)


_FRESH = """
import sys, numpy as np, sortal
texts = sys.stdin.read().split("\\x1f")
for folder in sys.argv[1:]:
    np.save(folder + "/../fresh.npy", sortal.load(folder).predict_proba(texts))
"""


def test_s3_a_fresh_process_gives_the_answers_given_before_saving(runs, tmp_path):
    pytest.importorskip("bitsandbytes")
    nf4 = {"quantization": "nf4", "nf4_backend": "bitsandbytes"}
    several = [runs(family) for family in FAMILIES]
    several += [runs("llama", dtype="bfloat16"), runs("gpt2", quantization="nf4"), runs("llama", **nf4)]
    texts = [*HARD_TEXTS, *(text for text, _ in rows(20))]
    subprocess.run(
        [sys.executable, "-c", _FRESH, *(str(run.model) for run in several)],
        input="\x1f".join(texts),
        text=True,
        check=True,
        cwd=tmp_path,
    )
    for run in several:
        before = run.classifier.predict_proba(texts)
        after = np.load(run.model.parent / "fresh.npy")
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)
        names = np.array(run.classifier.classes_)
        assert names[after.argmax(1)].tolist() == run.classifier.predict(texts)


@pytest.fixture
def folder(runs, tmp_path):
    """A copy of a model folder to damage."""
    shutil.copytree(runs().model, tmp_path / "model")
    return tmp_path / "model"


def _rehash(folder):
    path = folder / "adapter_model.safetensors"
    meta = read_json(folder / "sortal.json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_json(folder / "sortal.json", files={**meta["files"], path.name: digest})


def _edit_tensors(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


A = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
SCORE = "base_model.model.score.weight"


@pytest.mark.parametrize("rehash", [True, False])
@pytest.mark.parametrize(
    ("name", "complaint"),
    [(SCORE, "no weights of the score head"), (A, "lacks 1 of 29"), (B, "lacks 1 of 29")],
)
def test_s3_a_missing_tensor_is_refused(folder, name, complaint, rehash):
    """With the hash repaired too, so that each check is seen at work."""
    _edit_tensors(folder, lambda tensors: tensors.pop(name))
    if rehash:
        _rehash(folder)
    with pytest.raises(ModelError, match=complaint if rehash else "SHA-256 differs"):
        sortal.load(folder)


def test_s3_a_missing_layer_is_refused(folder):
    """Every target still occurs once; a check by target name would let it pass."""
    _edit_tensors(folder, lambda t: [t.pop(k) for k in list(t) if ".layers.1." in k])
    _rehash(folder)
    with pytest.raises(ModelError, match=r"lacks 14 of 29 tensors, .*layers\.1\."):
        sortal.load(folder)


def test_s3_a_tensor_without_a_place_is_refused(folder):
    _edit_tensors(folder, lambda t: t.update({A.replace("layers.1", "layers.7"): t[A].clone()}))
    _rehash(folder)
    with pytest.raises(ModelError, match="no place for"):
        sortal.load(folder)


def test_s3_a_missing_or_damaged_adapter_file_is_refused(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    _rehash(folder)
    with pytest.raises(ModelError, match="is damaged"):
        sortal.load(folder)
    path.unlink()
    with pytest.raises(ModelError, match="is missing"):
        sortal.load(folder)


@pytest.mark.parametrize(
    "change", [{"r": 4}, {"target_modules": ["q_proj"]}, {"target_modules": ["no_proj"]}]
)
def test_s3_an_adapter_config_of_another_adapter_is_refused(folder, change):
    edit_json(folder / "adapter_config.json", **change)
    with pytest.raises(ModelError, match="adapter"):
        sortal.load(folder)


def test_s3_a_wrong_number_of_labels_is_refused(folder):
    config = read_json(folder / "config.json")
    four = {**config["id2label"], "3": "extra"}
    edit_json(folder / "config.json", id2label=four, label2id={v: int(k) for k, v in four.items()})
    with pytest.raises(ModelError, match=r"config\.json and sortal\.json disagree"):
        sortal.load(folder)
    edit_json(folder / "sortal.json", labels=[*read_json(folder / "sortal.json")["labels"], "extra"])
    with pytest.raises(ModelError, match=r"score is \(3, 32\), expected \(4, 32\)"):
        sortal.load(folder)


@pytest.mark.parametrize("file", ["config.json", "sortal.json"])
def test_s3_another_label_order_is_refused(folder, file):
    names = read_json(folder / "sortal.json")["labels"]
    turned = [*names[1:], names[0]]
    if file == "config.json":
        edit_json(folder / file, id2label={str(i): name for i, name in enumerate(turned)})
    else:
        edit_json(folder / file, labels=turned)
    with pytest.raises(ModelError, match="disagree about the labels"):
        sortal.load(folder)


def test_s3_an_edited_template_or_tokenizer_is_refused(folder):
    meta = read_json(folder / "sortal.json")
    edit_json(folder / "sortal.json", template={**meta["template"], "suffix": meta["template"]["suffix"][1:]})
    with pytest.raises(ModelError, match="template does not match its hash"):
        sortal.load(folder)
    edit_json(folder / "sortal.json", template=meta["template"])
    edit_json(folder / "tokenizer.json", post_processor=None)
    with pytest.raises(ModelError, match="does not apply the template"):
        sortal.load(folder)


def test_s3_another_base_is_refused(folder, tiny_models, tmp_path):
    """Another family, another shape, or the same model tuned further in the same place."""
    meta = read_json(folder / "sortal.json")
    tuned = tmp_path / "tuned"
    shutil.copytree(tiny_models["llama"], tuned)
    weights = load_file(tuned / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] += 1e-3
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    for base in (tiny_models["gpt2"], tiny_models["qwen3"], tuned):
        edit_json(folder / "sortal.json", base_model={**meta["base_model"], "spec": str(base)})
        with pytest.raises(ModelError, match="was tuned on other weights"):
            sortal.load(folder)


def test_s3_a_run_with_relative_paths_loads_from_anywhere(tiny, data, tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(tiny, here / "base")
    there.mkdir()
    monkeypatch.chdir(here)
    result = fit(data, Path("base"), Path("run"))
    shutil.move(here / "run" / "model", there / "moved")
    monkeypatch.chdir(there)
    found = sortal.load("moved").scorer.score(HARD_TEXTS)
    np.testing.assert_allclose(found, result.classifier.scorer.score(HARD_TEXTS), atol=1e-6)
