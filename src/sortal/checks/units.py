"""How long texts are: in words, or in the tokens of the model that would read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sortal.data.records import Say
from sortal.prompting.shortlist import TOKEN

if TYPE_CHECKING:
    from sortal.backbone.encoding import TextEncoder

_WORD = re.compile(TOKEN)
_WHOLE = 1 << 30  # tokens: nothing is cut, so that the true length is known


@dataclass(frozen=True)
class Words:
    """Counts words as ``tfidf`` does: in scripts without spaces between words a character counts as one."""

    name: str = "words"
    beside: str = ""  # what of a length is not the text's own, for a message

    def lengths(self, texts: Iterable[str]) -> npt.NDArray[np.int64]:
        """Words of each text, int64 ``[n]``."""
        return np.fromiter((len(_WORD.findall(text)) for text in texts), np.int64)


@dataclass(frozen=True)
class Tokens:
    """Counts the tokens of a model, those of its default template included."""

    encoder: TextEncoder
    beside: str
    name: str = "tokens"

    @classmethod
    def of(cls, model: str, say: Say) -> Tokens:
        """Of a model spec.

        Raises:
            ModelError: there is no such model.
        """
        from sortal.backbone.encoding import TextEncoder
        from sortal.backbone.loading import load_tokenizer
        from sortal.backbone.sources import resolve
        from sortal.backbone.template import make_template, own_template
        from sortal.config import build_config

        source = resolve(model, say=say)
        tokenizer = load_tokenizer(source.path, source.revision)
        if source.kind == "decoder":
            template = make_template(build_config({"model": model}).template_source, tokenizer)
        else:
            template = own_template(tokenizer)
        beside = f" of {model} with its template ({template.extra})"
        return cls(TextEncoder(tokenizer, template, _WHOLE, "head"), beside)

    def lengths(self, texts: Iterable[str]) -> npt.NDArray[np.int64]:
        """Tokens of each text with its template, int64 ``[n]``."""
        return self.encoder.encode(texts).lengths


Unit = Words | Tokens
