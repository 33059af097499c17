"""What methods are called in a comparison: ``head``, a blend ``head+tfidf``, a form ``head@small``, an ensemble ``head+encoder``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sortal.config import applies
from sortal.config_sections import NOT_TUNED
from sortal.errors import ConfigError
from sortal.methods import REGISTRY

BLENDED = "+tfidf"
_FORM = re.compile(r"@[A-Za-z0-9_-]+$")


def plain_method(name: str) -> str:
    """``head`` of ``head``, ``head+tfidf``, ``head@small`` and ``head@small+tfidf``; ``ensemble`` of ``head+encoder``."""
    return "ensemble" if members_of(name) else _FORM.sub("", form(name))


def members_of(name: str) -> tuple[str, ...]:
    """``head`` and ``encoder`` of ``head+encoder``; none of a method that is no ensemble, a blend with tfidf included."""
    parts = tuple(name.split("+"))
    return () if len(parts) == 1 or (len(parts) == 2 and name.endswith(BLENDED)) else parts


def is_seedless(name: str) -> bool:
    """Whether every seed gives the same classifier."""
    members = members_of(name)
    return all(map(is_seedless, members)) if members else plain_method(name) in NOT_TUNED


def form(name: str) -> str:
    """``head@small`` of ``head@small+tfidf``."""
    return name.removesuffix(BLENDED)


def method_name(config: Mapping[str, Any]) -> str:
    """What a run with these settings is called in a comparison."""
    blended = config.get("blend") == "tfidf"
    return f"{config['method']}{BLENDED if blended else ''}"


def check_name(name: str, methods: Sequence[str]) -> None:
    """Refuse a name that stands for nothing, for the same as another, or for methods that are not compared.

    Raises:
        ConfigError: see above.
    """
    members = members_of(name)
    if lacking := [member for member in members if member not in methods]:
        raise ConfigError(
            f"{name}: {lacking[0]!r} is not compared",
            f"an ensemble adds methods that are compared, too: name {', '.join(members)} as well",
        )
    plain = plain_method(name)
    blended = not members and form(name) != name
    if (
        plain not in REGISTRY
        or (plain == "ensemble" and not members)
        or (blended and not applies("blend", plain))
    ):
        known = ", ".join(each for each in REGISTRY if each != "ensemble")
        raise ConfigError(
            f"unknown method {name!r}",
            f"choose from {known}, any with @NAME for settings of its own, any that has a pretrained model with {BLENDED}, and sums of them",
        )
    if len(set(members)) < len(members) or list(methods).count(name) > 1:
        raise ConfigError(f"methods {', '.join(methods)}: {name} names something twice", "name each once")


def scopes(method: str) -> set[str]:
    """Whose own settings ``method`` has: a form's are its blend's, too."""
    return {method} if members_of(method) else {method, form(method)} if "@" in method else {method}
