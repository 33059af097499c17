"""Which kind of base model a method reads."""

from __future__ import annotations

from sortal.backbone.registry import Kind
from sortal.backbone.sources import ModelSource
from sortal.errors import ModelError

_NAMES: dict[Kind, str] = {"decoder": "a causal language model", "encoder": "an encoder"}
_WAYS: dict[Kind, str] = {
    "decoder": "choose method encoder for it, or a causal language model such as smollm2-135m",
    "encoder": "choose method head or instruct for it, or an encoder such as minilm-l6",
}


def check_kind(source: ModelSource, wanted: Kind, method: str) -> None:
    """Refuse a base model of the other kind before its weights are read.

    Raises:
        ModelError: a causal model where every token has to see the whole text, or the reverse.
    """
    if source.kind != wanted:
        raise ModelError(
            f"method {method} needs {_NAMES[wanted]}, and {source.spec} is {_NAMES[source.kind]}",
            _WAYS[wanted],
        )
