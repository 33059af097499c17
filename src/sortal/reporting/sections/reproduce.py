"""The settings as a file and the command that makes the same again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from sortal.comparison.names import form, members_of, plain_method
from sortal.config import applies
from sortal.reporting.blocks import Code, Section, Words
from sortal.reporting.settings import changed
from sortal.reporting.source import FinishedRun, Source


def reproduce(source: Source) -> Section:
    """A YAML file, the command that takes it, and what must agree."""
    if source.comparison is None:
        settings, command = changed(source.shown), "sortal train --config settings.yaml --out NEW_FOLDER"
    else:
        methods = list(dict.fromkeys(cell["method"] for cell in source.comparison.cells))
        seeds = len({cell["seed"] for cell in source.comparison.cells})
        settings = _shared(source.runs)
        command = shlex.join(
            ["sortal", "compare", "--config", "settings.yaml", "--methods", ",".join(methods), "--seeds", str(seeds), "--metric", source.metric, "--out", "NEW_FOLDER"]
        )  # fmt: skip
    test = source.shown.record["data"]["test"]["fingerprint"]
    words = f"Save the settings as settings.yaml and give the command where the data files have these names. The same data has test fingerprint {test[:12]}"
    version = source.shown.record.get("environment", {}).get("versions", {}).get("sortal")
    words += f"; the runs were made by Sortal {version}." if version else "."
    return Section(
        "reproduce",
        "How to make it again",
        [
            Words(words),
            Code(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), "yaml"),
            Code(command),
        ],
    )


def _shared(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Settings of a comparison: those that all methods which have them share, and ``method.setting`` for the others."""
    own = {run.method: changed(run) for run in runs}
    settings: dict[str, Any] = {}
    names = dict.fromkeys(name for values in own.values() for name in values)
    for name in (name for name in names if name not in ("method", "blend", "members", "seed")):
        having = [method for method in own if applies(name, plain_method(method))]
        values = [own[method].get(name) for method in having]
        together = bool(having) and all(value == values[0] for value in values) and values[0] is not None
        if together:
            settings[name] = values[0]
        # What is said of all methods does not reach every one: an encoder's model is its own, for example.
        rest = [method for method in own if name in own[method] and not (together and method in having)]
        settings |= {f"{method}.{name}": own[method][name] for method in rest}
    for run in runs:
        own_name = form(run.method)
        if "@" not in own_name or members_of(run.method):
            continue
        if not any(name.startswith((f"{own_name}.", f"{run.method}.")) for name in settings):
            # All of its own settings are the defaults, which `compare` wants to be told.
            settings |= {
                f"{own_name}.{name}": run.record["config"][name] for name in _told_apart(run, settings)
            }
    return settings


def _told_apart(run: FinishedRun, settings: dict[str, Any]) -> list[str]:
    """Settings that ``run`` has and that other runs of its method were given, or else one that every method has."""
    plain = plain_method(run.method)
    given = [name.partition(".")[2] for name in settings if name.startswith((f"{plain}.", f"{plain}@"))]
    return [name for name in dict.fromkeys(given) if applies(name, plain)] or ["temperature_scaling"]
