"""The members of an ensemble that are trained with it: ordinary runs on the ensemble's own rows, in its own folder."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from typing import Any

from sortal.config import RunConfig
from sortal.errors import CheckpointError
from sortal.parts import Parts, Say
from sortal.training.distributed import Processes
from sortal.training.identity import RunIdentity, differences, result_settings
from sortal.training.runfolder import RunFolder


def train_members(
    config: RunConfig,
    parts: Parts,
    group: Processes,
    force: bool,
    say: Say,
    train: Callable[[RunConfig, bool], object],
) -> None:
    """Run every member of ``config`` that is not finished, the first one first; each goes on where it was stopped.

    Args:
        force: take finished members although data or settings differ.
        train: makes the run of a member's settings; whether it goes on with one that was stopped.

    Raises:
        CheckpointError: a finished member of other data or settings.
    """
    methods = config.trained_members
    for number, method in enumerate(methods, start=1):
        own = config.of_member(method)
        folder = RunFolder(str(own.out))
        say(f"member {number} of {len(methods)}: {method}")
        state = group.share_object(folder.state() if group.main else None)
        if state != "finished":
            train(own, state == "unfinished")
            gc.collect()  # a model holds itself in circles: two would lie in memory beside the next
            continue
        changed = differing(folder, own, parts)
        if changed and not force:
            raise CheckpointError(
                f"{folder.path} holds a run that differs: {'; '.join(changed)}",
                "resume with the same data and settings, choose another --out, or accept the change with --force",
            )
        but = f", and taken although this differs: {'; '.join(changed)}" if changed else ""
        say(f"{folder.path} is finished already{but}")


def member_figures(folder: RunFolder, record: Mapping[str, Any]) -> list[tuple[str, float, dict[str, Any]]]:
    """(method, weight, content of metrics.json) of every member that the ensemble in ``folder`` trained; ``record``: its run.json."""
    found = []
    for entry in record["training"]["members"]:
        metrics = RunFolder(folder.members / entry["method"]).metrics_json
        found.append((entry["method"], entry["share"], json.loads(metrics.read_text(encoding="utf-8"))))
    return found


def differing(folder: RunFolder, config: RunConfig, parts: Parts) -> list[str]:
    """How the run in ``folder`` differs from one with these settings on these rows, a line each; empty for the same run."""
    saved = RunIdentity.from_json(folder.read_run_json()["identity"])
    now = RunIdentity(
        parts.fingerprints(),
        parts.label_space.names,
        # What a spec stands for is settled when the run is made, which then compares the revision itself.
        saved.base_model if config.model is None else config.model,
        saved.revision,
        config.seed,
        json.loads(json.dumps(result_settings(config.model_dump(mode="json"), parts.label_space.tree))),
    )
    return differences(saved, now)
