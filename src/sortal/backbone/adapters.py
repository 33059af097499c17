"""What Sortal uses of peft, without the second that peft spends on bitsandbytes for models that have no 4-bit layer.

Where bitsandbytes is installed, ``import peft`` imports it, and with it torch's compiler; attaching an adapter does so again. Both
are put off here until something needs them. A model can have a bitsandbytes layer only after bitsandbytes was imported, so
peft decides as it always does.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class _Later:
    """A module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


def _import_peft() -> None:
    """Import peft; a process that has either package already is left as it is."""
    if "peft" in sys.modules or "bitsandbytes" in sys.modules or find_spec("bitsandbytes") is None:
        return
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # import's own way to say "not there"
    try:
        helpers, lora = import_module("peft.helpers"), import_module("peft.tuners.lora.model")
    finally:
        del sys.modules["bitsandbytes"]
    helpers.bnb = _Later("bitsandbytes")  # type: ignore[attr-defined]
    for name in ("is_bnb_available", "is_bnb_4bit_available"):
        setattr(lora, name, _once_imported(getattr(lora, name)))


def _once_imported(available: Any) -> Any:
    return lambda: "bitsandbytes" in sys.modules and available()


_import_peft()

from peft import (  # noqa: E402 - after bitsandbytes is out of the way
    LoraConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
)
from peft.tuners.lora import LoraLayer  # noqa: E402

__all__ = ["LoraConfig", "LoraLayer", "PeftModel", "TaskType", "get_peft_model", "get_peft_model_state_dict"]
