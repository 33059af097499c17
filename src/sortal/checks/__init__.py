"""What is wrong with labelled data, before hours are spent on it: one kind of issue per file, by name.

Adding a check touches its own file, this table and its tests. The order is that of the work: what later checks can use is
computed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from sortal.data.problems import nearest
from sortal.errors import ConfigError

if TYPE_CHECKING:
    from sortal.checks.base import CheckContext, Finding

    Check = Callable[[CheckContext], Iterable[Finding]]

REGISTRY = {
    "duplicates": "sortal.checks.duplicates:check",
    "conflicts": "sortal.checks.conflicts:check",
    "leakage": "sortal.checks.leakage:check",
    "near-duplicates": "sortal.checks.near_duplicates:check",
    "label-spelling": "sortal.checks.label_spelling:check",
    "unseen-labels": "sortal.checks.unseen_labels:check",
    "rare-labels": "sortal.checks.rare_labels:check",
    "imbalance": "sortal.checks.imbalance:check",
    "text-length": "sortal.checks.text_length:check",
    "encoding": "sortal.checks.encoding:check",
    "scripts": "sortal.checks.scripts:check",
    "languages": "sortal.checks.languages:check",
    "time-order": "sortal.checks.time_order:check",
    "label-noise": "sortal.checks.label_noise:check",
}


def get_checks(only: Sequence[str] = ()) -> dict[str, Check]:
    """The checks called ``only``, or all, in the order of `REGISTRY`.

    Raises:
        ConfigError: there is no such check.
    """
    for name in only:
        if name not in REGISTRY:
            raise ConfigError(
                f"unknown check {name!r}{nearest(name, list(REGISTRY))}", f"choose from {', '.join(REGISTRY)}"
            )
    found: dict[str, Check] = {}
    for name, place in REGISTRY.items():
        if name in only or not only:
            module, _, attribute = place.partition(":")
            found[name] = getattr(import_module(module), attribute)
    return found
