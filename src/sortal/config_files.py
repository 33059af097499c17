"""Settings from YAML files and from ``key=value`` words; flags win over words, words over files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sortal.config import RunConfig, build_config, refuse_unknown
from sortal.config_sections import LISTS, TEXTS
from sortal.errors import ConfigError


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, parsed with ``safe_load`` only."""
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist", "check the path") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}", "check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}", "fix the line named above"
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}, not key: value pairs", "write one `key: value` per line"
        )
    return {str(key): value for key, value in values.items()}


def parse_assignments(pairs: list[str]) -> dict[str, Any]:
    """``["epochs=2", "text=[a, b]"]`` → ``{"epochs": 2, "text": ["a", "b"]}``; values are YAML scalars or lists.

    Names, paths and templates are taken as they are written, for ``|``, ``#`` and ``{text}`` mean something else in YAML.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, raw = pair.partition("=")
        key = key.strip()
        if not separator or not key:
            raise ConfigError(f"--set {pair!r} is not key=value", "write --set learning_rate=0.0003")
        if key in TEXTS | LISTS and raw[:1] not in ('"', "'", "[") and raw not in ("null", "~"):
            values[key] = raw
            continue
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError:
            value = raw
        values[key] = value if key in TEXTS | LISTS else _number_if_scientific(value)
    return values


def _number_if_scientific(value: Any) -> Any:
    # YAML 1.1 reads "3e-4" as a string; people mean the number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def load_config(path: str | Path | None = None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Defaults, then the YAML file, then ``overrides`` (flags and ``--set``); later ones win."""
    values = read_yaml(path) if path is not None else {}
    refuse_unknown(values, str(path))
    where = str(path) if path is not None and not overrides else "settings"
    values = {
        key: value if key in TEXTS | LISTS else _number_if_scientific(value) for key, value in values.items()
    }
    return build_config({**values, **(overrides or {})}, where)
