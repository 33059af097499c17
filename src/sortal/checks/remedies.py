"""What `--fix` can do to rows of the training file; only what needs no judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from sortal.data.dataset import Indices


@dataclass(frozen=True, eq=False)
class Drop:
    """Leave out ``rows`` (int64, 0-based); ``why`` says why ``rows[i]`` goes, given ``i``."""

    rows: Indices
    why: Callable[[int], str]
    action: ClassVar[str] = "removed"


@dataclass(frozen=True, eq=False)
class Rewrite:
    """Pass every text cell of ``rows`` (int64, 0-based) through ``repair``."""

    rows: Indices
    repair: Callable[[str], str]
    action: ClassVar[str] = "text repaired"


@dataclass(frozen=True, eq=False)
class Relabel:
    """Write label names another way, wherever they occur: old name → new name; ``rows`` (int64, 0-based) have one of them."""

    rows: Indices
    names: Mapping[str, str]
    action: ClassVar[str] = "label renamed"


Remedy = Drop | Rewrite | Relabel
