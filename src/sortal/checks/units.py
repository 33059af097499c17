"""How long texts are: in words, or in the tokens of the model that would read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sortal.prompting.shortlist import TOKEN

if TYPE_CHECKING:
    from sortal.checks.base import CheckContext

_WORD = re.compile(TOKEN)
_WHOLE = 1 << 30  # tokens: nothing is cut, so that the true length is known


@dataclass(frozen=True, eq=False)
class Lengths:
    """Length of every text.

    Attributes:
        units: int64 ``[rows]``.
        name: what they are, ``words`` or ``tokens``.
        beside: what of it is not the text's own, for a message.
    """

    units: npt.NDArray[np.int64]
    name: str
    beside: str = ""


def measure(context: CheckContext, part: str) -> Lengths:
    """Tokens of ``context.model`` with its default template, or words when no model is named.

    Words are those of ``tfidf``: in scripts without spaces between words a character counts as one.

    Raises:
        ModelError: there is no such model.
    """
    if context.model is None:
        texts = context.texts(part, "counting words")
        counts = (len(_WORD.findall(text)) for text in texts)
        return Lengths(np.fromiter(counts, np.int64, len(context.parts[part])), "words")
    from sortal.backbone.encoding import TextEncoder
    from sortal.backbone.loading import load_tokenizer
    from sortal.backbone.sources import resolve
    from sortal.backbone.template import make_template, own_template
    from sortal.config import build_config

    source = resolve(context.model, say=context.say)
    tokenizer = load_tokenizer(source.path, source.revision)
    decoder = source.kind == "decoder"
    template = (
        make_template(build_config({"model": context.model}).template_source, tokenizer)
        if decoder
        else own_template(tokenizer)
    )
    encoder = TextEncoder(tokenizer, template, _WHOLE, "head")
    lengths = encoder.encode(context.texts(part, "counting tokens")).lengths
    return Lengths(lengths, "tokens", f" of {context.model} with its template ({template.extra})")
