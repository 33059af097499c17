"""Exports: the same answers in another runtime, or a refusal that leaves nothing (S5, S6, S8)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import sortal
from sortal.cli.main import main
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError, ModelError, ResourceError
from sortal.exporting import export as module
from sortal.exporting import fresh, networks
from sortal.exporting.subject import read_subject
from sortal.exporting.texts import check_texts
from sortal.model_folder import read_meta
from sortal.training.progress import NoProgress
from tiny_runs import HARD_TEXTS, classifier, edit_json, fit, rows, write_csv

TEXTS = [text for text, _ in rows(200, ("good", "bad", "odd"))]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """200 rows to compare on."""
    return str(write_csv(tmp_path_factory.mktemp("texts") / "texts.csv", [(text, "good") for text in TEXTS]))


def nothing_left(folder):
    return [path.name for path in folder.iterdir()] == []


def test_a_head_gives_the_same_answers_in_a_pipeline(made, texts, tmp_path, capsys):
    """S5, S6: merged into 16 bits or wider; same label on 200 rows, no new weights, calibrated probabilities; printed and written."""
    out = tmp_path / "hf"
    assert (
        main(["export", str(made("head")), "--to", "hf", "--out", str(out), "--data", texts, "--json"]) == 0
    )
    heard = capsys.readouterr()
    said = json.loads(heard.out)
    assert said["agreement"]["agreeing"] == said["agreement"]["rows"] >= 200
    assert 0 < said["agreement"]["largest"] < 1e-5
    assert "max |Δp|" in heard.err
    written = json.loads((out / "export.json").read_text(encoding="utf-8"))
    assert written["agreement"] == said["agreement"]
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "single_label_classification"
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert [config["id2label"][str(i)] for i in range(3)] == written["labels"] == ["bad", "good", "odd"]
    assert 'model="hf"' in (out / "README.md").read_text(encoding="utf-8")
    assert not (out / "adapter_model.safetensors").exists()


def test_several_labels_are_sigmoids_with_thresholds_for_the_caller(made, texts, tmp_path):
    """S8, and what vLLM needs to know."""
    folder = made("head, multi")
    found = sortal.export(folder, to="vllm", out=tmp_path / "served", data=texts, dtype="float16")
    assert found.agreement["agreeing"] == found.agreement["rows"]
    assert found.agreement["largest"] < 0.02
    written = json.loads((tmp_path / "served" / "export.json").read_text(encoding="utf-8"))
    assert written["decision"]["thresholds"] == sortal.load(folder).meta["decision"]["thresholds"]
    assert written["problem_type"] == "multi_label_classification"
    assert written["serve"] == (
        "vllm serve served --served-model-name sortal --runner pooling --dtype float16 --max-model-len 128"
    )
    request = json.loads((tmp_path / "served" / "request.json").read_text(encoding="utf-8"))
    assert request["truncate_prompt_tokens"] == 128
    notes = (tmp_path / "served" / "README.md").read_text(encoding="utf-8")
    assert "vLLM itself was not run" in notes
    assert "reaches its threshold" in notes


def test_an_encoder_with_its_own_head_is_a_pipeline(made, texts, tmp_path):
    found = sortal.export(made("encoder"), to="hf", out=tmp_path / "hf", data=texts)
    assert found.agreement["agreeing"] == found.agreement["rows"]
    assert found.agreement["largest"] < 1e-5


def test_an_adapter_lies_on_its_base_in_peft(made, texts, tmp_path):
    found = sortal.export(made("head"), to="adapter", out=tmp_path / "adapter", data=texts)
    assert found.agreement["agreeing"] == found.agreement["rows"]
    assert found.agreement["largest"] < 1e-5
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "tokenizer.json",
    }


@pytest.mark.parametrize(("kind", "int8"), [("probe", False), ("encoder, multi", True)])
def test_onnx_takes_any_batch_and_length(made, texts, tmp_path, kind, int8):
    """The program in its README: a probe with an intercept and an encoder, in fp32 and in 8 bits."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from sortal.exporting.onnx_session import OnnxClassifier

    folder = made(kind)
    found = sortal.export(folder, to="onnx", out=tmp_path / "onnx", data=texts, int8=int8)
    assert found.agreement["largest"] < (0.1 if int8 else 1e-5)
    assert (tmp_path / "onnx" / "model.onnx").stat().st_size < (400_000 if int8 else 10**9)
    ask, ours = OnnxClassifier(tmp_path / "onnx"), sortal.load(folder)
    assert ask.labels == list(ours.classes_)
    for batch in (list(HARD_TEXTS), ["a"], ["", "fine " * 200]):
        np.testing.assert_allclose(ask(batch), ours.predict_proba(batch), atol=0.1 if int8 else 1e-5)
    assert not list((tmp_path / "onnx").glob("wide*"))


@pytest.mark.parametrize("to", ["hf", "gguf"])
@pytest.mark.parametrize("form", ["label", "each", "list"])
def test_an_instruct_model_is_a_merged_language_model(made, tmp_path, to, form):
    found = sortal.export(made(f"instruct, {form}"), to=to, out=tmp_path / to)
    assert found.agreement["agreeing"] == found.agreement["rows"]
    assert found.agreement["largest"] < 1e-4
    written = json.loads((tmp_path / to / "export.json").read_text(encoding="utf-8"))
    assert sorted(written["answers"].values()) == sorted(written["labels"])


def test_a_run_in_bf16_is_held_to_fp32_arithmetic_and_its_own_is_shown(runs, tmp_path):
    folder = runs(dtype="bfloat16").model
    found = sortal.export(folder, to="hf", out=tmp_path / "hf")
    assert found.agreement["largest"] < 1e-5
    assert 1e-5 < found.as_run["largest"] < 0.1


def test_eight_bits_of_gguf_are_what_they_say(made, tmp_path):
    import gguf

    sortal.export(made("instruct, label"), to="gguf", out=tmp_path / "gguf", int8=True)
    tensors = gguf.GGUFReader(tmp_path / "gguf" / "model.gguf").tensors
    assert {t.tensor_type.name for t in tensors if len(t.shape) > 1} == {"Q8_0"}


def test_answers_that_differ_are_not_published(made, tmp_path, monkeypatch, capsys):
    """S5: past the limit the export fails, says by how much, and leaves nothing."""
    whole = networks.merge

    def damaged(model):
        merged = whole(model)
        with torch.no_grad():
            merged.model.layers[0].mlp.down_proj.weight.mul_(-1)
        return merged

    monkeypatch.setattr(networks, "merge", damaged)
    words = ["export", str(made("instruct, label")), "--to", "hf", "--out", str(tmp_path / "hf")]
    assert main(words) == 2
    assert "a probability differs by" in capsys.readouterr().err
    assert nothing_left(tmp_path)
    assert main([*words, "--max-difference", "1"]) == 0


def test_a_merge_into_four_bits_is_refused(tiny):
    """S5."""
    pytest.importorskip("bitsandbytes")
    from peft import LoraConfig, get_peft_model

    coarse = classifier(tiny, quantization="nf4", nf4_backend="bitsandbytes")
    adapted = get_peft_model(coarse, LoraConfig(target_modules=["q_proj"], r=2))
    with pytest.raises(ModelError, match="merged into 16-bit or wider weights only"):
        networks.merge(adapted)


def test_a_four_bit_run_is_merged_into_the_values_it_multiplied_with(one_label, tiny, texts, tmp_path):
    """S5: into 16-bit weights that hold the NF4 values; the plain base would give other answers."""
    pytest.importorskip("bitsandbytes")
    fit(one_label, tiny, tmp_path / "run", quantization="nf4", method="instruct", max_length=None)
    found = sortal.export(tmp_path / "run" / "model", to="gguf", data=texts)
    assert found.agreement["largest"] < 1e-4


def test_a_folder_with_weights_missing_is_noticed(tiny):
    """S6: what the check would say if the score were not in the export."""
    space = LabelSpace(("a", "b"), "single")
    with pytest.raises(ModelError, match="newly initialized"):
        fresh.probabilities({"kind": "pipeline", "folder": str(tiny)}, space, ["a text"], NoProgress())


@pytest.mark.parametrize(
    ("kind", "to", "words"),
    [
        ("tfidf", "hf", "no network"),
        ("majority", "onnx", "no network"),
        ("head, blended", "hf", "--without-blend"),
        ("probe", "adapter", "it has no adapter"),
        ("encoder", "gguf", "no place for a trained score layer"),
        ("instruct, label", "onnx", "--to gguf"),
        ("head", "gguf", "no place for a trained score layer"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_a_way_out(made, tmp_path, kind, to, words):
    with pytest.raises(ModelError) as caught:
        sortal.export(made(kind), to=to, out=tmp_path / "out")
    assert words in str(caught.value)
    assert caught.value.fix
    assert nothing_left(tmp_path)


def test_a_blend_is_exported_without_its_linear_model_when_asked(made, tmp_path, monkeypatch):
    monkeypatch.setattr(fresh, "probabilities", _in_transformers)
    found = sortal.export(made("head, blended"), to="hf", out=tmp_path / "out", without_blend=True)
    assert found.agreement["largest"] < 1e-4
    written = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert written["blend"] == "left out"
    own = read_meta(made("head, blended"))["without_blend"]
    assert written["decision"] == own["decision"]
    assert written["decision"]["temperature"] != 1.0
    assert "left out" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def _in_transformers(asked, space, texts, view):
    """In place of the process: the exported folder in plain transformers, here."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asked["folder"])
    model = AutoModelForSequenceClassification.from_pretrained(asked["folder"]).eval()
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits.softmax(-1).double().numpy()


def test_a_mean_has_no_place_in_transformers(one_label, tiny, tmp_path):
    fit(one_label, tiny, tmp_path / "run", pooling="mean")
    for to in ("hf", "vllm", "adapter"):
        with pytest.raises(ModelError, match="mean of its tokens") as caught:
            sortal.export(tmp_path / "run" / "model", to=to)
        assert "--to onnx" in caught.value.fix


def test_targets_in_use_and_wrong_words_are_refused(made, tmp_path):
    folder = made("instruct, label")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for out, force in ((tmp_path / "mine", True), (folder, True)):
        with pytest.raises(ConfigError):
            sortal.export(folder, to="hf", out=out, force=force)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    sortal.export(folder, to="hf", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="--force"):
        sortal.export(folder, to="hf", out=tmp_path / "out")
    sortal.export(folder, to="hf", out=tmp_path / "out", force=True)
    for wrong in ({"to": "onx"}, {"to": "hf", "dtype": "float8"}, {"to": "hf", "max_difference": 2.0}):
        with pytest.raises(ConfigError):
            sortal.export(folder, out=tmp_path / "new", **wrong)
    with pytest.raises(ModelError, match="no 8-bit weights"):
        sortal.export(folder, to="hf", out=tmp_path / "new", int8=True)
    assert not (tmp_path / "new").exists()


def test_the_texts_are_the_runs_own_while_they_can_be_read_unchanged(made, tmp_path):
    def source(folder):
        subject = read_subject(folder, "hf", None, int8=False, without_blend=False)
        return check_texts(subject, None, None, 10).source

    folder = made("instruct, label")
    assert source(folder).startswith("the run's test")
    moved = shutil.copytree(folder, tmp_path / "model")
    assert source(moved).startswith("the run's test"), "by the folder that sortal.json names"
    known = json.loads((folder / "sortal.json").read_text(encoding="utf-8"))["data_fingerprints"]
    edit_json(moved / "sortal.json", data_fingerprints={**known, "test": "other", "dev": "other"})
    assert "label names" in source(moved)
    edit_json(moved / "sortal.json", data_fingerprints=known, run_folder=str(tmp_path / "gone"))
    assert "label names" in source(moved)


def test_a_full_disk_is_told_before_anything_is_written(made, tmp_path, monkeypatch):
    class Full:
        free = 1000

    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: Full)
    with pytest.raises(ResourceError, match="MB are free"):
        sortal.export(made("instruct, label"), to="hf", out=tmp_path / "out")
    assert nothing_left(tmp_path)
