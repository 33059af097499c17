"""What a saved model's weights may be while it answers."""

from __future__ import annotations

from sortal.errors import ConfigError

WEIGHTS = ("saved", "int8")
_DECODERS = ("head", "instruct", "probe")


def check_weights(weights: str, method: str | None = None) -> None:
    """Refuse an unknown name, and 8 bits for a method that multiplies no decoder's matrices.

    Raises:
        ConfigError: see above.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"weights {weights!r}: no such weights", f"use one of {', '.join(WEIGHTS)}")
    if weights == "int8" and method is not None and method not in _DECODERS:
        raise ConfigError(
            f"weights int8 is for methods {', '.join(_DECODERS)}, and this model is of method {method}",
            "leave the weights as they were saved",
        )
