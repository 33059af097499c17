"""Which settings of a run are not the defaults of its method."""

from __future__ import annotations

from typing import Any

from sortal.config import RunConfig, build_config, says_something
from sortal.reporting.source import FinishedRun

# Shown as data, or about where the result went and not about what it is.
_ELSEWHERE = frozenset({"data", "dev", "test", "out", "method"})


def changed(run: FinishedRun) -> dict[str, Any]:
    """Settings, data included, whose value in the run is not their method's default; what the run resolved itself is among them."""
    config = run.record["config"]
    usual = _usual(run)
    return {
        name: config[name]
        for name in RunConfig.model_fields
        if (name in config and name != "out" and config[name] != usual[name]) or name == "method"
    }


def both(run: FinishedRun) -> tuple[dict[str, Any], dict[str, Any]]:
    """(not the default, as by default) of the settings that mean something to the method, without data and folder."""
    config, differing = run.record["config"], changed(run)
    meant = [name for name in RunConfig.model_fields if name not in _ELSEWHERE and name in config and says_something(name, config)]  # fmt: skip
    return (
        {name: config[name] for name in meant if name in differing},
        {name: config[name] for name in meant if name not in differing},
    )


def _usual(run: FinishedRun) -> dict[str, Any]:
    config = run.record["config"]
    given = {key: config[key] for key in ("method", "tuning", "members") if key in config}
    # No members are the default of an ensemble, which cannot be without.
    return {**build_config(given).model_dump(mode="json"), "members": []}
