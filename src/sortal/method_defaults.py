"""Defaults that depend on the method; everything else has one default for all, in `sortal.config`."""

from __future__ import annotations

from typing import Any

DEFAULT_MODEL = "smollm2-135m"
_ENCODER: dict[str, Any] = {"model": "minilm-l6"}
# Mosbach et al. 2021 (arXiv 2006.04884): a small learning rate, bias-corrected Adam, a tenth of warm-up and linear decay.
_FULL: dict[str, Any] = {
    "learning_rate": 5e-5,
    "head_learning_rate": 1e-3,
    "warmup_ratio": 0.1,
    "lr_scheduler_type": "linear",
}
_LORA: dict[str, Any] = {"learning_rate": 5e-4}  # a decoder's 2e-3 was not tried on encoders
RATES = frozenset(_FULL)  # an encoder's are never those of adapters on a causal model

HEAD: dict[str, Any] = {"blend": "auto"}  # docs/adr/0011-a-head-is-blended.md


def with_method_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` as the user gave them, on top of their method's own defaults."""
    method = values.get("method", "head")
    if method == "head":
        return {**HEAD, **values}
    if method == "encoder":
        return {**_ENCODER, **(_FULL if values.get("tuning", "full") == "full" else _LORA), **values}
    return values


def least_epochs(method: str) -> int:
    """Epochs on large data: all weights of an encoder move slowly, at a tenth of an adapter's learning rate."""
    return 5 if method == "encoder" else 3
