"""Networks without Sortal in them: adapters merged, temperature in the weights, every value in fp32 on the CPU.

Merging happens in fp32, into a base that was loaded for it: a 16-bit sum rounds what the adapter adds, and a 4-bit one loses most of it.
The temperature divides the last layer's weights, so that softmax or sigmoid of the logits are Sortal's probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from sortal.backbone import loading
from sortal.backbone.encoders import head_modules
from sortal.errors import ModelError
from sortal.exporting.subject import Subject
from sortal.methods.adapter_folder import attach_adapter, check_base, check_labels
from sortal.methods.encoder import EncoderMethod
from sortal.methods.probe import WEIGHTS
from sortal.methods.text_folder import load_texts

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Network:
    """A classifier in pieces.

    whole: transformers' ``…ForSequenceClassification``, or the body of an encoder alone.
    pooling: ``last`` real token, ``mean`` of the tokens after the first ``skip``, or ``own``: ``whole`` has a head of its family's.
    score: the linear layer on the pooled state; None with pooling ``own``.
    causal: whether it is a decoder, whose positions are counted from a text's first token.
    """

    whole: Any
    pooling: str
    skip: int
    score: nn.Linear | None
    causal: bool

    @property
    def body(self) -> Any:
        """The transformers model below the head."""
        return getattr(self.whole, self.whole.base_model_prefix, self.whole)


def read_network(subject: Subject) -> Network:
    """The network of a ``head``, ``probe`` or ``encoder`` folder.

    Raises:
        ModelError: the folder is damaged, its base model is another one now or in 4 bits.
    """
    return {"head": _head, "probe": _probe, "encoder": _encoder}[subject.method](subject)


def _head(subject: Subject) -> Network:
    model = merge(attach_adapter(_classifier(subject), subject.folder))
    encoder = load_texts(subject.folder, subject.meta)
    _cool(model.score, subject)
    return Network(
        model, subject.meta.get("pooling", "last"), len(encoder.template.prefix), model.score, True
    )


def _probe(subject: Subject) -> Network:
    model = _classifier(subject)
    weights = load_file(subject.folder / WEIGHTS)
    labels, hidden = weights["weight"].shape
    score = nn.Linear(hidden, labels)
    score.load_state_dict(weights)
    model.score = score.requires_grad_(False)
    encoder = load_texts(subject.folder, subject.meta)
    _cool(score, subject)
    return Network(model, subject.meta["pooling"], len(encoder.template.prefix), score, True)


def _encoder(subject: Subject) -> Network:
    model = EncoderMethod().load(subject.folder, subject.meta, subject.space).model.to(CPU)
    if not model.own:
        assert isinstance(model.score, nn.Linear)
        _cool(model.score, subject)
        return Network(model.whole, "mean", 0, model.score, False)
    linear = [module for module in head_modules(model.whole).modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].out_features != len(subject.space):
        raise ModelError(
            f"{subject.folder}: the head of {type(model.whole).__name__} does not end in a linear layer on the labels",
            "use sortal serve for this encoder",
        )
    _cool(linear[-1], subject)
    return Network(model.whole, "own", 0, None, False)


def read_language_model(subject: Subject) -> Any:
    """The merged causal language model of an ``instruct`` folder."""
    settings = _settings(subject)
    base = loading.load_language_model(_base(subject), settings, **_weights(subject))
    merged = merge(attach_adapter(base.float(), subject.folder))
    merged.config.use_cache = True
    return merged


def merge(model: Any) -> Any:
    """``model``, which peft wrapped, with its adapter added to its weights.

    Raises:
        ModelError: the weights are quantised: the sum would be rounded to their few values.
    """
    coarse = sorted({type(p).__name__ for p in model.parameters() if "bit" in type(p).__name__.lower()})
    coarse += [str(p.dtype) for p in model.parameters() if not p.is_floating_point()][:1]
    if coarse:
        raise ModelError(
            f"an adapter is merged into 16-bit or wider weights only, and these are quantised ({coarse[0]})",
            "give a base model that is not quantised",
        )
    return model.merge_and_unload().eval()


def _classifier(subject: Subject) -> Any:
    settings = _settings(subject)
    return loading.load_classifier(_base(subject), settings, **_weights(subject)).float()


def _settings(subject: Subject) -> Any:
    settings = loading.load_config(str(subject.folder))
    check_labels(subject.folder, settings, subject.space)
    return settings


def _base(subject: Subject) -> str:
    """The base model's folder, refused when its weights are quantised in the file."""
    path = check_base(subject.folder, subject.meta).path
    if getattr(loading.load_config(path), "quantization_config", None) is not None:
        raise ModelError(
            f"{path} holds quantised weights, and an adapter is merged into 16-bit or wider weights only",
            "export with --to adapter, or train on the base model's 16-bit version",
        )
    return path


def _weights(subject: Subject) -> dict[str, Any]:
    """As the run had them: the values that a 4-bit run multiplied with are rounded to their NF4 values, and kept in 16 bits."""
    return loading.weights_as_saved(subject.meta, CPU) | {"nf4_backend": "auto"}


def _cool(linear: nn.Linear, subject: Subject) -> None:
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.div_(subject.decision.temperature)
