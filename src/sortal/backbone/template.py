"""The head's template, written into the tokenizer itself.

What the final token says decides how good a head on a small decoder is, so every text is read inside a template:
prefix ids, text, suffix ids; the prefix may list the labels. They become the tokenizer's post-processor; encoding, ``pipeline``, other servers and
our own then all apply it without knowing about it, and truncation can only ever cut the text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers.processors import TemplateProcessing

from sortal.errors import ConfigError, ModelError

NAMED = {
    # PromptEOL (arXiv 2307.16645): the last token has to sum the text up, so its state does.
    "summary": 'This sentence: "{text}" means in one word: "',
    "topic": 'Text: "{text}"\nWhat is this text about? In one word: "',
    "labels": 'One of: {labels}.\nThis sentence: "{text}" means in one word: "',
}


@dataclass(frozen=True)
class Template:
    """Token ids around every text. ``source`` is what the user asked for: a name or a text with ``{text}``."""

    source: str
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def extra(self) -> int:
        """Tokens the template adds to every text."""
        return len(self.prefix) + len(self.suffix)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the ids: two folders with equal hashes read texts alike."""
        return hashlib.sha256(json.dumps([self.prefix, self.suffix]).encode()).hexdigest()[:16]


def make_template(source: str, tokenizer: Any, names: Sequence[str] = ()) -> Template:
    """Encode ``source`` (a name in `NAMED`, ``eos`` or a text with one ``{text}``) with ``tokenizer``.

    A beginning-of-sequence token that the tokenizer adds by itself is kept, once, in front.

    Args:
        names: what stands, separated by commas, where ``source`` has ``{labels}``.

    Raises:
        ConfigError: the template adds no token at all, so an empty text would have no state to read; a name holds a special token.
        ModelError: ``eos`` for a tokenizer without an end-of-sequence token.
    """
    bos = own_prefix(tokenizer)
    if source == "eos":
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "template 'eos' needs an end-of-sequence token and this tokenizer has none",
                "use template 'summary'",
            )
        return Template(source, bos, (int(tokenizer.eos_token_id),))
    before, _, after = NAMED.get(source, source).partition("{text}")
    if "{labels}" in before:
        _check_names(names, tokenizer)
        before = before.replace("{labels}", ", ".join(names))
    prefix = (*bos, *_plain(tokenizer, before))
    template = Template(source, prefix, _plain(tokenizer, after))
    if not template.extra:
        raise ConfigError(
            f"template {source!r} adds no token, so an empty text would have no state to read",
            "add words before or after {text}",
        )
    return template


def _check_names(names: Sequence[str], tokenizer: Any) -> None:
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    for name in names:
        if found := next((token for token in special if token in name), None):
            raise ConfigError(
                f"the template lists the labels, and {name!r} holds {found!r}, a special token of this model",
                "word the label otherwise in a verbalizer file, or use a template without {labels}",
            )


def own_template(tokenizer: Any) -> Template:
    """What the tokenizer's own post-processor puts around a text: ``[CLS] … [SEP]`` of BERT-type encoders.

    Raises:
        ModelError: it adds nothing, so an empty text would have no state to read.
    """
    template = Template("own", *_around(tokenizer))
    if not template.extra:
        raise ModelError(
            "the tokenizer adds no token to a text, so an empty text would have no state to read",
            "use an encoder whose tokenizer adds its special tokens, such as [CLS] and [SEP]",
        )
    return template


def own_prefix(tokenizer: Any) -> tuple[int, ...]:
    """Ids the tokenizer's own post-processor puts before a text (usually none or one BOS)."""
    return _around(tokenizer)[0]


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    marker = tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = [int(i) for i in tokenizer("a")["input_ids"]]
    for start in range(len(ids) - len(marker) + 1):
        if ids[start : start + len(marker)] == marker:
            return tuple(ids[:start]), tuple(ids[start + len(marker) :])
    return (), ()


def _plain(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def install(template: Template, tokenizer: Any, max_length: int, truncation: str) -> None:
    """Write the template, the padding token and the limits into ``tokenizer`` (in place).

    Special tokens inside a text are encoded as plain characters from here on, so that no text can contain the pad or
    end token. ``head+tail`` truncation has no counterpart in tokenizers; there the saved tokenizer cuts the tail.

    Raises:
        ConfigError: ``max_length`` leaves no room for a text.
    """
    if max_length <= template.extra:
        raise ConfigError(
            f"max_length {max_length} leaves no room for a text: the template alone has {template.extra} tokens",
            f"set max_length above {template.extra}, or use a shorter template",
        )
    pieces, special = ["$A"], []
    for name, ids in (("before", template.prefix), ("after", template.suffix)):
        if ids:
            key = f"sortal_{name}"
            special.append(
                {"id": key, "ids": list(ids), "tokens": tokenizer.convert_ids_to_tokens(list(ids))}
            )
            pieces = [key, *pieces] if name == "before" else [*pieces, key]
    pair = [*pieces[: pieces.index("$A") + 1], "$B", *pieces[pieces.index("$A") + 1 :]]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=pieces, pair=pair, special_tokens=special
    )
    # Without this, reloading rebuilds the post-processor from add_bos_token / add_eos_token.
    for key in ("add_bos_token", "add_eos_token"):
        tokenizer.init_kwargs.pop(key, None)
    tokenizer._should_update_post_processor = False
    tokenizer.split_special_tokens = True
    tokenizer.init_kwargs["split_special_tokens"] = True
    tokenizer.backend_tokenizer.encode_special_tokens = True
    tokenizer.model_max_length = max_length
    # The sides are saved only as arguments of the tokenizer's class, whose own defaults differ from family to family.
    for key, side in (
        ("truncation_side", "left" if truncation == "tail" else "right"),
        ("padding_side", "right"),
    ):
        setattr(tokenizer, key, side)
        tokenizer.init_kwargs[key] = side
    tokenizer.pad_token = choose_pad(tokenizer, template)


def choose_pad(tokenizer: Any, template: Template) -> str:
    """A padding token that can never be the final token of a text, without adding one to the vocabulary.

    transformers pools at the right-most token that is not pad, so pad must differ from the final token: the template's
    last one or, without a suffix, a token of the text (``unk``, but never another special one), or the prefix's last
    for an empty text.

    Raises:
        ModelError: there is no suffix and every special token may come last.
    """
    taken = {template.suffix[-1]} if template.suffix else {template.prefix[-1], tokenizer.unk_token_id}
    special = [str(t) for _, t in sorted(tokenizer.added_tokens_decoder.items()) if t.special]
    candidates = [tokenizer.pad_token] if tokenizer.pad_token != tokenizer.eos_token else []
    candidates += [t for t in special if "pad" in t.lower()]
    candidates += [
        t for t in special if "reserved" in t.lower() or "unused" in t.lower() or "endoftext" in t.lower()
    ]
    candidates += [tokenizer.unk_token, *special, tokenizer.eos_token]
    for token in candidates:
        if token and token != tokenizer.eos_token and tokenizer.convert_tokens_to_ids(token) not in taken:
            return str(token)
    if tokenizer.eos_token and tokenizer.eos_token_id not in taken:
        return str(tokenizer.eos_token)
    if not template.suffix:
        raise ModelError(
            "the tokenizer has no special token to pad with", "use a template with words after {text}"
        )
    # Any ordinary token will do: attention ignores padding, and the template's last token comes after every text.
    return str(tokenizer.convert_ids_to_tokens(1 if 0 in taken else 0))
