"""What vLLM itself makes of our folders before it serves them: its checks of an adapter, a config and a request.

It serves nothing here, which takes a GPU. Only where vLLM can be imported: `pip install --no-deps vllm` and the small packages its
modules name is enough. CI has none.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

import sortal
from instruct_runs import instruct
from tiny_runs import fit, rows, write_csv

peft_helper = pytest.importorskip(
    "vllm.lora.peft_helper", reason="needs vLLM's modules", exc_type=ImportError
)
MODULES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module")
def folders(tiny_models, tmp_path_factory):
    """A model folder of each method with an adapter."""
    folder = tmp_path_factory.mktemp("vllm")
    data, base = write_csv(folder / "data.csv", rows(48)), tiny_models["llama"]
    fit(data, base, folder / "head")
    instruct(data, base, folder / "instruct")
    return {name: folder / name / "model" for name in ("head", "instruct")}


@pytest.mark.parametrize("name", ["head", "instruct"])
def test_vllm_accepts_the_adapter_and_finds_a_layer_for_every_tensor(folders, name, monkeypatch):
    from vllm.config.lora import LoRAConfig
    from vllm.lora import lora_model
    from vllm.lora.utils import parse_fine_tuned_lora_name

    folder = folders[name]
    found = peft_helper.PEFTHelper.from_local_dir(str(folder), 512)
    found.validate_legal(LoRAConfig(max_lora_rank=8))
    assert (found.r, found.vllm_lora_scaling_factor) == (8, 2.0)
    assert set(found.target_modules) == MODULES
    sides: dict[str, set[bool]] = {}
    with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118 - not a dict
            module, is_a = parse_fine_tuned_lora_name(key)
            sides.setdefault(module, set()).add(is_a)
    scores = {"score"} if name == "head" else set()
    expected = {
        f"model.layers.{layer}.{'self_attn' if part[0] in 'qkvo' else 'mlp'}.{part}"
        for layer in range(2)
        for part in MODULES
    }
    assert {module for module, both in sides.items() if both == {True, False}} == expected
    assert set(sides) - expected == scores
    monkeypatch.setattr(lora_model, "PIN_MEMORY", False)  # there is no GPU to copy to
    loaded = lora_model.LoRAModel.from_local_checkpoint(
        str(folder), MODULES | scores, found, device="cpu", dtype=torch.float32
    )
    assert set(loaded.loras) == expected
    assert set(loaded.modules_to_save) == scores


@pytest.fixture(scope="module")
def exported(folders, tmp_path_factory):
    """The folders' exports, and what vLLM makes of their configs."""
    from vllm.config import ModelConfig

    def read(name, runner):
        out = tmp_path_factory.mktemp("exported") / name
        sortal.export(folders[name], to="vllm", out=out)
        return out, ModelConfig(model=str(out), runner=runner, enforce_eager=True)

    return {"head": read("head", "pooling"), "instruct": read("instruct", "generate")}


@pytest.mark.parametrize(
    ("name", "runner", "convert", "model"),
    [
        ("head", "pooling", "classify", "LlamaForSequenceClassification"),
        ("instruct", "generate", "none", "LlamaForCausalLM"),
    ],
)
def test_vllm_takes_a_head_for_a_classifier_and_an_instruct_model_for_a_generator(
    exported, name, runner, convert, model
):
    _, config = exported[name]
    assert (config.runner_type, config.convert_type) == (runner, convert)
    assert config.registry.resolve_model_cls(config.architectures, config)[1] == model


def test_vllm_reads_the_request_of_a_head_and_cuts_a_text_as_sortal_does(folders, exported):
    from transformers import AutoTokenizer
    from vllm.entrypoints.pooling.classify.protocol import ClassificationCompletionRequest

    out, config = exported["head"]
    body = json.loads((out / "request.json").read_text(encoding="utf-8"))
    asked = ClassificationCompletionRequest.model_validate(body)
    assert not asked.model_extra, "every key is one that vLLM knows"
    tokenizer, encoder = AutoTokenizer.from_pretrained(out), sortal.load(folders["head"]).scorer.encoder
    given = asked.build_tok_params(config).get_encode_kwargs()
    for text in ("fine", "", "a long text " * 60):
        assert tokenizer(text, **given)["input_ids"] == encoder.encode([text])[0].tolist()


def test_vllm_reads_the_request_of_an_instruct_model_and_may_answer_with_labels_alone(exported):
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    out, _ = exported["instruct"]
    body = json.loads((out / "request.json").read_text(encoding="utf-8"))
    asked = CompletionRequest.model_validate(body)
    assert not asked.model_extra, "every key is one that vLLM knows"
    params = asked.to_sampling_params(asked.max_tokens, {})
    assert params.structured_outputs.choice == body["structured_outputs"]["choice"] == [" bad", " good"]
    assert (params.temperature, params.max_tokens) == (0, body["max_tokens"])
