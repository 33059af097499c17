"""``hf``: a complete transformers folder, for ``AutoModelForSequenceClassification`` and ``pipeline``, or for ``AutoModelForCausalLM``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from sortal.backbone.quiet import quiet
from sortal.errors import ModelError
from sortal.exporting import fresh, language
from sortal.exporting.formats import Floats
from sortal.exporting.networks import Network, read_language_model, read_network
from sortal.exporting.subject import Subject
from sortal.methods.head import PROBLEM_TYPE
from sortal.training.atomic import write_json
from sortal.training.progress import ProgressView

_TOKENIZER = ("tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges")
_NORMS = ("norm", "ln_f", "final_norm", "final_layernorm", "final_layer_norm")


class HfFormat:
    """Merged weights in safetensors, config and tokenizer."""

    runtime: ClassVar[str] = "transformers"

    def check(self, subject: Subject) -> None:
        """Refuse poolings that transformers' classifiers lack."""
        refuse_int8(subject, "hf")
        if subject.method == "instruct":
            return
        pooling = subject.meta.get("pooling", "last")
        if pooling == "mean":
            raise ModelError(
                f"{subject.folder} reads the mean of its tokens' states, and transformers' classifiers have no place for that",
                "export with --to onnx, or train with pooling last (head, probe) or own (encoder)",
            )

    def size(self, subject: Subject, parameters: int) -> int:
        """The weights."""
        return parameters * bytes_of(subject.dtype)

    def write(self, subject: Subject, folder: Path) -> None:
        """``model.safetensors``, ``config.json`` and the tokenizer files."""
        if subject.method == "instruct":
            model = read_language_model(subject)
        else:
            model = sequence_classifier(read_network(subject), subject)
        save_model(model, subject, folder)
        if subject.method == "instruct":
            write_json(folder / language.REQUEST, language.vllm_request(subject))

    def probabilities(self, subject: Subject, folder: Path, texts: list[str], view: ProgressView) -> Floats:
        """By ``pipeline("text-classification")`` in a process of its own; an ``instruct`` model through Sortal's exact scoring."""
        if subject.method == "instruct":
            return language.probabilities(subject, lambda: load_plain(folder), texts, view)
        return fresh.probabilities({"kind": "pipeline", "folder": str(folder)}, subject.space, texts, view)

    def notes(self, subject: Subject) -> str:
        """The two lines that load it."""
        if subject.method == "instruct":
            return language.notes(subject)
        return (
            "```python\nfrom transformers import pipeline\n\n"
            'classify = pipeline("text-classification", model="FOLDER")\n'
            'classify(["a text", "another"], top_k=None, truncation=True)\n```\n'
        )

    def facts(self, subject: Subject) -> dict[str, Any]:
        """What the config says about the answers."""
        if subject.method == "instruct":
            return language.answer_facts(subject)
        return {"architecture": "ForSequenceClassification", "problem_type": PROBLEM_TYPE[subject.space.task]}


def bytes_of(dtype: str) -> int:
    """Bytes of one weight."""
    return int(getattr(torch, dtype).itemsize)


def refuse_int8(subject: Subject, to: str) -> None:
    """Refuse 8-bit weights where the format has none."""
    if subject.int8:
        raise ModelError(
            f"--to {to} has no 8-bit weights", "leave out --int8, or export with --to onnx or --to gguf"
        )


def save_model(model: Any, subject: Subject, folder: Path) -> None:
    """Write ``model`` in the asked dtype, with the tokenizer files as the run saved them."""
    model = model.to(getattr(torch, subject.dtype))
    model.config._name_or_path = ""
    with quiet():
        model.save_pretrained(folder)
    copy_tokenizer(subject.folder, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """The tokenizer's files, byte for byte: the template is in them."""
    for path in source.iterdir():
        if path.is_file() and path.name.startswith(_TOKENIZER):
            shutil.copyfile(path, folder / path.name)


def load_plain(folder: Path) -> Any:
    """The exported causal language model, computing in fp32 whatever is stored."""
    from transformers import AutoModelForCausalLM

    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def sequence_classifier(network: Network, subject: Subject) -> Any:
    """``…ForSequenceClassification`` with the problem type of the labels.

    Raises:
        ModelError: the score layer of a probe has a bias, and the model has no place for it.
    """
    if network.score is not None and network.score.bias is not None:
        _absorb_bias(network, subject)
    network.whole.config.problem_type = PROBLEM_TYPE[subject.space.task]
    return network.whole


def _absorb_bias(network: Network, subject: Subject) -> None:
    """Move the score's bias b into the bias of the final norm, which ``score`` reads: W (x + δ) = W x + b for the shortest such δ."""
    norm = next((m for name, m in network.body.named_children() if name in _NORMS), None)
    bias = getattr(norm, "bias", None)
    assert network.score is not None
    weight, wanted = network.score.weight.double(), network.score.bias.double()
    shift = torch.linalg.pinv(weight) @ wanted
    fits = torch.allclose(weight @ shift, wanted, atol=1e-6)
    if not isinstance(bias, nn.Parameter) or not fits:
        raise ModelError(
            f"{subject.folder} is a probe whose regression has an intercept, and {type(network.whole).__name__} has no place for one",
            "export with --to onnx, or train a head on so many layers: --method head --keep-layers "
            f"{network.whole.config.num_hidden_layers}",
        )
    with torch.no_grad():
        bias.add_(shift)
    plain = nn.Linear(network.score.in_features, network.score.out_features, bias=False)
    plain.weight = network.score.weight
    network.whole.score = plain
