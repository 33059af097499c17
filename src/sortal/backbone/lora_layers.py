"""Which modules are peft's LoRA layers, asked without importing peft: a third of a second that models without adapters do without."""

from __future__ import annotations

import sys
from typing import Any, TypeGuard


def is_lora(module: object) -> TypeGuard[Any]:
    """Whether ``module`` is a linear layer with adapters beside it; there is none in a process that has not imported peft."""
    lora = sys.modules.get("peft.tuners.lora")
    return lora is not None and isinstance(module, lora.LoraLayer)
