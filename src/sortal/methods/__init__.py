"""The methods, by name. Adding one touches its own file, this table and its tests."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sortal.backbone.collector import paused
from sortal.data.problems import nearest
from sortal.errors import ModelError

if TYPE_CHECKING:
    from sortal.methods.base import Method

REGISTRY = {
    "head": "sortal.methods.head:HeadMethod",
    "instruct": "sortal.methods.instruct:InstructMethod",
    "probe": "sortal.methods.probe:ProbeMethod",
    "encoder": "sortal.methods.encoder:EncoderMethod",
    "tfidf": "sortal.methods.tfidf:TfidfMethod",
    "majority": "sortal.methods.majority:MajorityMethod",
    "ensemble": "sortal.methods.ensemble:EnsembleMethod",
}


def get_method(name: str) -> Method:
    """The method called ``name``.

    Raises:
        ModelError: there is none.
    """
    if name not in REGISTRY:
        raise ModelError(
            f"unknown method {name!r}{nearest(name, list(REGISTRY))}", f"choose from {', '.join(REGISTRY)}"
        )
    module, _, attribute = REGISTRY[name].partition(":")
    with paused():
        method: Method = getattr(import_module(module), attribute)()
    return method
