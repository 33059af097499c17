"""The settings of a run that adds the scores of others, which are finished or trained with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from sortal.config_hierarchy import DATA_FIELDS
from sortal.config_sections import Section
from sortal.method_defaults import RATES

ENSEMBLES = frozenset(("ensemble",))
MEMBERS = frozenset(("head", "instruct", "probe", "encoder", "tfidf", "majority"))
# Settings that are the ensemble's own.
NOT_OF_MEMBERS = frozenset(("method", "members", "preset", "out", "blend"))


class EnsembleConfig(Section):
    """Method ensemble: runs whose scores are added."""

    members: tuple[str, ...] = Field(
        (),
        description="folders of two finished runs or more, of the same rows and labels; without data the rows are those of the first. Or two methods or more, which are trained first, with the settings that they have",
    )


def with_members(values: dict[str, Any]) -> dict[str, Any]:
    """``values``, with the rows of the first member where none are named."""
    members = values.get("members") or ()
    if values.get("method") not in ENSEMBLES or values.get("data") or not members:
        return values
    first = members.split(",")[0] if isinstance(members, str) else members[0]
    if first in MEMBERS:
        return values
    try:
        config = json.loads((Path(str(first)) / "run.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return values  # the method says what is wrong with it
    rows = {name: config[name] for name in DATA_FIELDS if name in config}
    if rows.get("split_seed") is None:
        rows["split_seed"] = config.get("seed")  # a split without a seed of its own follows the run's
    return {**rows, **values}


def trained_members(members: Sequence[str]) -> tuple[str, ...]:
    """The methods among ``members``: all of them or, where they are folders of runs, none."""
    return tuple(name for name in members if name in MEMBERS)


def member_folders(config: Any) -> tuple[str, ...]:
    """The run folders of the members; of those that are trained with an ensemble, in its own. ``config``: all settings of the run."""
    if not trained_members(config.members):
        return tuple(config.members)
    return tuple(str(Path(config.out) / "members" / method) for method in config.members)


def wrong_for_members(
    methods: Sequence[str], given: Sequence[str], applies: Callable[[str, str], bool]
) -> str:
    """What is wrong with the settings ``given`` to an ensemble that trains ``methods``, or nothing.

    Args:
        applies: whether a setting is meant for a method.
    """
    for name in given:
        if name in NOT_OF_MEMBERS:
            continue
        having = [method for method in methods if applies(name, method)]
        if not having:
            return f"{name} is a setting of none of {', '.join(methods)}"
        if name in RATES and "encoder" in having and len(having) > 1:
            return f"{name} is not the same for an encoder and a causal model: train them apart, and name their folders as members"
    return ""


def wrong_members(config: Any) -> str:
    """What is wrong with the members, or nothing; ``config``: all settings of the run."""
    if config.method not in ENSEMBLES:
        return ""
    if len(config.members) < 2:
        return "method ensemble adds the scores of two runs or more: name methods, or the folders of finished runs, as members"
    if len(set(config.members)) < len(config.members):
        return "members names something twice: name each once"
    methods = trained_members(config.members)
    if methods and len(methods) < len(config.members):
        other = next(name for name in config.members if name not in methods)
        return f"members names methods and {other!r}, which is none: name methods only ({', '.join(sorted(MEMBERS))}), or folders of finished runs only"
    if methods and config.blend != "none":
        return "what an ensemble adds is its members: leave blend out, and name tfidf as one"
    return ""
