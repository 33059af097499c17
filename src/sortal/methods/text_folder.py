"""The text side of a model: a tokenizer that applies its template by itself, made, saved with what sortal.json says about it, and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sortal.backbone import loading
from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.longtexts import PLAIN, LongTexts
from sortal.backbone.template import Template, install, make_template
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError, ModelError
from sortal.prompting.verbalizer import label_texts

SHARED = 32  # tokens before every text from which they are read once for many: docs/explanation/head.md
MAX_LENGTH = 256
LONG_LENGTH = 512
_MEASURED = 1000  # training texts that say which of the two

_PROBES = ("A short text.", "", " <|im_end|> </s> <eos> [SEP] [MASK] Ünïcode 文字 \U0001f600 ")
_LONG = "one two three four five six seven eight nine ten "


def make_encoder(
    path: str, config: RunConfig, train: Dataset | None = None, space: LabelSpace | None = None
) -> TextEncoder:
    """The tokenizer of a base model with the configured template written into it.

    Args:
        train: texts that say how much is read where ``config`` does not.
        space: the labels that a template may list.

    Raises:
        ConfigError: the listed labels leave no room for texts.
    """
    tokenizer = loading.load_tokenizer(path, trust_remote_code=config.trust_remote_code)
    names = label_texts(config.verbalizer, space.names) if config.lists_labels and space else ()
    template = make_template(config.template_source, tokenizer, names)
    listed = len(template.prefix) - len(make_template(config.template_source, tokenizer).prefix)
    length = config.max_length or MAX_LENGTH + listed
    encoder = TextEncoder(tokenizer, template, length, config.truncation, long=long_texts(config))
    settings = loading.load_config(path, trust_remote_code=config.trust_remote_code)
    positions = getattr(settings, "max_position_embeddings", None)
    if config.max_length is None:
        encoder = longer(encoder, train, positions, listed)
    if listed and positions is not None and encoder.max_length > positions:
        raise ConfigError(
            f"the template lists {len(names):,} labels in {listed:,} tokens; with a text of {encoder.max_length - listed:,} tokens that is more than the {positions:,} the model reads",
            "set max_length lower, word the labels shorter in a verbalizer file, or use template 'summary'",
        )
    install(template, tokenizer, encoder.max_length, config.truncation)
    return encoder


def longer(
    encoder: TextEncoder, train: Dataset | None, positions: int | None, listed: int = 0
) -> TextEncoder:
    """``encoder``, or one of `LONG_LENGTH` tokens where it cuts more than half of the training texts and the model has the positions.

    What is read in windows stays as it is. ``listed``: tokens of labels that stand before every text, and come on top.
    """
    long = LONG_LENGTH + listed
    if train is None or encoder.long.windows > 1 or (positions or long) < long:
        return encoder
    places = np.linspace(0, len(train) - 1, min(len(train), _MEASURED)).astype(np.int64)
    cut = encoder.encode(train.text_at(places)).truncated
    return replace(encoder, max_length=long) if 2 * cut > len(places) else encoder


def sharing(encoder: TextEncoder) -> TextEncoder:
    """``encoder``, or one whose texts stand below what its template puts before them, where that is long."""
    template = encoder.template  # without a suffix nothing need stand below it
    return replace(encoder, shared=bool(template.suffix) and len(template.prefix) >= SHARED)


def long_texts(config: RunConfig) -> LongTexts:
    """How the settings have long texts read; those of one window share nothing, and there is nothing to combine."""
    sections = tuple((config.sections or {}).items())
    if config.windows == 1:
        return LongTexts(sections)
    return LongTexts(sections, config.windows, config.stride, config.aggregation)


def saved_long_texts(long: LongTexts, template_hash: str) -> dict[str, Any]:
    """What sortal.json says about ``long``: nothing for plain texts."""
    return {} if long.plain else {"long_texts": long.to_json(template_hash)}


def read_long_texts(folder: Path, meta: dict[str, Any], template_hash: str) -> LongTexts:
    """The inverse of `saved_long_texts`.

    Raises:
        ModelError: it was edited.
    """
    try:
        return LongTexts.from_json(meta.get("long_texts"), template_hash)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}/sortal.json: long_texts is not what it was saved as ({error})",
            "restore the file; it was edited",
        ) from None


def save_texts(encoder: TextEncoder, folder: Path) -> dict[str, Any]:
    """Write the tokenizer files; returns template, ``max_length`` and ``truncation`` for sortal.json.

    Raises:
        ModelError: plain transformers would read texts in another way than ``encoder``.
    """
    encoder.tokenizer.save_pretrained(folder)
    check_tokenizer(folder, encoder)
    template = encoder.template
    return {
        "template": {
            "source": template.source,
            "prefix": list(template.prefix),
            "suffix": list(template.suffix),
            "hash": template.hash,
        },
        "max_length": encoder.max_length,
        "truncation": encoder.truncation,
        **saved_long_texts(encoder.long, template.hash),
    }


def load_texts(folder: Path, meta: dict[str, Any]) -> TextEncoder:
    """The text encoder that `save_texts` wrote.

    Raises:
        ModelError: template or tokenizer changed since.
    """
    tokenizer = loading.load_tokenizer(str(folder))
    saved = meta["template"]
    template = Template(saved["source"], tuple(saved["prefix"]), tuple(saved["suffix"]))
    if template.hash != saved["hash"]:
        raise ModelError(
            f"{folder}/sortal.json: the template does not match its hash",
            "restore the file; it was edited",
        )
    long = read_long_texts(folder, meta, template.hash)
    encoder = TextEncoder(tokenizer, template, meta["max_length"], meta["truncation"], long=long)
    _check_plain(folder, encoder, tokenizer)
    return encoder


def check_tokenizer(folder: Path, encoder: TextEncoder) -> None:
    """The saved tokenizer, read by plain transformers, must give the ids our encoder gives; of long texts, those of one window."""
    _check_plain(folder, encoder, loading.load_tokenizer(str(folder)))


def _check_plain(folder: Path, encoder: TextEncoder, plain: Any) -> None:
    encoder = replace(encoder, long=PLAIN, shared=False)
    # First all that the plain tokenizer says: it may be the encoder's own, which encoding changes.
    long = _LONG * (1 + encoder.max_length // 8)
    expected = plain(list(_PROBES), verbose=False)["input_ids"]
    if encoder.truncation != "head+tail":  # tokenizers have no such policy
        expected += plain([long], truncation=True)["input_ids"]
    whole = replace(encoder, max_length=1 << 20)
    same = expected == [*_lists(whole.encode(_PROBES)), *_lists(encoder.encode([long]))][: len(expected)]
    if not same:
        raise ModelError(
            f"{folder}: the tokenizer does not apply the template it was saved with",
            "restore tokenizer.json from the run",
        )


def _lists(texts: EncodedTexts) -> list[list[int]]:
    return [ids.tolist() for ids in texts]
