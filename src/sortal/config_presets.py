"""Presets: named settings of a head, or what is added to it, each with a measurement behind it (docs/how-to/presets.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sortal.config_sections import Section
from sortal.method_defaults import HEAD

# What a preset fills in where nothing else is said; balanced is the defaults themselves.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"lora_top_layers": "half"},
    "balanced": {},
    # docs/adr/0012-the-best-preset-is-a-sum.md
    "best": {"method": "ensemble", "members": ("head", "encoder", "tfidf")},
}
PRESET_METHODS = frozenset(("head",))  # what they were measured on


class PresetConfig(Section):
    """Time or quality."""

    preset: Literal["fast", "balanced", "best"] = Field(
        "balanced",
        description="settings by name, which those given win over. fast: adapters on the upper half of the layers (lora_top_layers half), the states below computed once; balanced: the defaults; best: a head, an encoder and tfidf are trained, and their scores added",
    )


def with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` as they were given, on top of their preset.

    Raises:
        ValueError: a preset that is a sum, beside a setting that says what is added.
    """
    preset = values.get("preset")
    if not isinstance(preset, str) or values.get("method", "head") not in PRESET_METHODS:
        return values
    filled = PRESETS.get(preset, {})
    if "members" in filled and "blend" in values:
        raise ValueError(
            f"preset {preset!r} says what is added to a head, and so does blend: leave one of them out"
        )
    given = {name: value for name, value in values.items() if name != "method" or name not in filled}
    return {**filled, **given}


def wrong_preset(preset: str, method: str) -> str:
    """What is wrong with a preset for a method, or nothing."""
    if not PRESETS[preset] or method in PRESET_METHODS or method == PRESETS[preset].get("method"):
        return ""
    return f"preset {preset!r} is for method {' or '.join(sorted(PRESET_METHODS))}, and no faster or better settings of {method} have been measured: leave it out"


def other_preset(values: dict[str, Any], preset: str) -> dict[str, Any]:
    """``values`` of a run with another preset: what their own filled in goes, what was given beside it stays."""
    filled = HEAD | PRESETS[values.get("preset", "balanced")]
    kept = {key: value for key, value in values.items() if key not in filled or filled[key] != value}
    return {**kept, "preset": preset}
