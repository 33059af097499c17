"""Encoders from a resolved model source: how they pool, how long a text they take, and their weights with a fresh head."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

from sortal.backbone.folders import read_json
from sortal.backbone.quiet import quiet
from sortal.errors import ConfigError, ModelError

Pooling = Literal["own", "mean"]
_SENTENCE_FILES = ("sentence_bert_config.json", "config_sentence_transformers.json", "modules.json")


def choose_pooling(setting: str, folder: Path) -> Pooling:
    """``setting``, or for ``auto`` the way of the model in ``folder``.

    A folder published with sentence-transformers was trained to be read at the mean of its tokens, unless its
    ``1_Pooling/config.json`` says otherwise; every other encoder gets the head that its family has in transformers.
    """
    if setting != "auto":
        return "mean" if setting == "mean" else "own"
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file():
        return "mean" if read_json(pooling).get("pooling_mode_mean_tokens", True) else "own"
    return "mean" if any((folder / name).is_file() for name in _SENTENCE_FILES) else "own"


def longest_text(settings: Any, pad_id: int | None) -> int:
    """Most tokens that the encoder has positions for; those of RoBERTa and its kin begin after the padding id."""
    positions = int(getattr(settings, "max_position_embeddings", 0) or 1 << 30)
    kin = settings.model_type in _PADDED_POSITIONS or "roberta" in settings.model_type
    return positions - (pad_id or 0) - 1 if kin else positions


_PADDED_POSITIONS = frozenset(("camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "xmod"))


def set_dropout(settings: Any, rate: float) -> None:
    """One rate for every dropout of a model built from ``settings``; whole layers are never dropped."""
    for name, value in settings.to_dict().items():
        if "layerdrop" in name:
            setattr(settings, name, 0.0)
        elif "drop" in name and (name == "classifier_dropout" or type(value) in (int, float)):
            setattr(settings, name, rate)


def load_body(path: str, settings: Any, *, trust_remote_code: bool = False) -> Any:
    """``AutoModel`` in fp32, every pretrained weight in its place; only a pooler, which not all checkpoints have, may be fresh.

    Raises:
        ModelError: not an encoder, or weights are missing.
    """
    if getattr(settings, "is_encoder_decoder", False):
        raise ModelError(
            f"{path} is an encoder with a decoder ({settings.model_type})",
            "method encoder needs an encoder alone, such as minilm-l6",
        )
    model, info = _read(AutoModel, path, settings, trust_remote_code)
    missing = [key for key in sorted(info["missing_keys"]) if not key.startswith("pooler.")]
    if missing:
        raise ModelError(
            f"{path}: weights missing: {', '.join(missing[:3])}", "give the folder of a complete encoder"
        )
    return model


def with_own_head(body: Any, settings: Any, *, trust_remote_code: bool = False) -> Any:
    """The family's ``…ForSequenceClassification`` around ``body``, its head fresh even if the checkpoint had one.

    Raises:
        ModelError: the family has none.
    """
    try:
        classifier = AutoModelForSequenceClassification.from_config(
            settings, trust_remote_code=trust_remote_code
        )
        empty = getattr(classifier, classifier.base_model_prefix)
    except (ValueError, AttributeError):
        empty = None
    if type(empty) is not type(body):
        raise ModelError(
            f"{type(body).__name__} has no classification head in transformers", "say pooling 'mean'"
        )
    if getattr(empty, "pooler", None) is None:
        without_pooler(body)
    setattr(classifier, classifier.base_model_prefix, body)
    return classifier.float()


def without_pooler(body: Any) -> Any:
    """``body`` without the dense layer on the first token that its pre-training used, where nothing reads it."""
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    return body


def load_tuned(auto: Any, folder: Path, settings: Any) -> Any:
    """A saved encoder, every tensor of the file in its place in the model and the reverse; in fp32.

    Raises:
        ModelError: naming what is missing, left over or damaged.
    """
    model, info = _read(auto, str(folder), settings, False)
    missing = sorted(info["missing_keys"])
    if auto is AutoModel:  # a body alone was saved without the pooler that nothing reads
        missing = [key for key in missing if not key.startswith("pooler.")]
    for keys, what in ((missing, "lacks"), (sorted(info["unexpected_keys"]), "holds, and has no place for,")):
        if keys:
            raise ModelError(
                f"{folder / 'model.safetensors'} {what} {len(keys)} tensors, {keys[0]} first",
                "restore config.json and the weights from one run",
            )
    return model


def check_length(asked: int | None, longest: int, default: int) -> int:
    """``asked``, or ``default`` where that fits.

    Raises:
        ConfigError: the encoder has no positions for so many tokens.
    """
    if asked is not None and asked > longest:
        raise ConfigError(
            f"max_length {asked} is more than the encoder has positions for ({longest})",
            f"use at most {longest}",
        )
    return asked or min(default, longest)


def head_modules(classifier: Any) -> nn.ModuleDict:
    """What of a ``…ForSequenceClassification`` is not its body, by name."""
    prefix = classifier.base_model_prefix
    return nn.ModuleDict({name: part for name, part in classifier.named_children() if name != prefix})


def _read(auto: Any, path: str, settings: Any, trust_remote_code: bool) -> Any:
    with quiet():
        try:
            return auto.from_pretrained(
                path,
                config=settings,
                dtype=torch.float32,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (
            Exception
        ) as error:  # safetensors and transformers raise many kinds for a damaged or foreign file
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(
                f"{path}: cannot be loaded as an encoder ({reason})",
                "use a BERT-type model with safetensors weights",
            ) from None
