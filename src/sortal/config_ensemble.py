"""The settings of a run that adds the scores of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from sortal.config_hierarchy import DATA_FIELDS
from sortal.config_sections import Section

ENSEMBLES = frozenset(("ensemble",))


class EnsembleConfig(Section):
    """Method ensemble: finished runs whose scores are added."""

    members: tuple[str, ...] = Field(
        (),
        description="folders of two finished runs or more, of the same rows and labels; without data the rows are those of the first",
    )


def with_members(values: dict[str, Any]) -> dict[str, Any]:
    """``values``, with the rows of the first member where none are named."""
    members = values.get("members") or ()
    if values.get("method") not in ENSEMBLES or values.get("data") or not members:
        return values
    first = members.split(",")[0] if isinstance(members, str) else members[0]
    try:
        config = json.loads((Path(str(first)) / "run.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return values  # the method says what is wrong with it
    rows = {name: config[name] for name in DATA_FIELDS if name in config}
    if rows.get("split_seed") is None:
        rows["split_seed"] = config.get("seed")  # a split without a seed of its own follows the run's
    return {**rows, **values}


def wrong_members(config: Any) -> str:
    """What is wrong with the members, or nothing; ``config``: all settings of the run."""
    if config.method not in ENSEMBLES:
        return ""
    if len(config.members) < 2:
        return "method ensemble adds the scores of two finished runs or more: name their folders as members"
    if len(set(config.members)) < len(config.members):
        return "members names a run twice: name each once"
    return ""
