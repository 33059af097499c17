"""What makes two runs the same run: resuming with other data, labels, model or seed mixes two experiments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sortal.errors import CheckpointError
from sortal.hierarchy.tree import LabelTree

# Settings whose change leaves the result alone, or that the identity holds in another form.
NOT_IN_RESULT = frozenset(
    {
        "data",
        "dev",
        "test",
        "text",
        "text_template",
        "label",
        "label_columns",
        "label_delimiter",
        "id",
        "group",
        "unseen_labels",
    }
    | {
        "model",
        "seed",
        "split_seed",
        "out",
        "preset",  # the settings that it fills in are there
        "members",  # of an ensemble, which has no checkpoints; where they lie is no part of the result
        "trust_remote_code",
        "max_tokens",
        "cuda_graphs",
        "gradient_checkpointing",
        "cache_trunk",
        "threads",
        "save_minutes",
        "save_total_limit",
    }
)


@dataclass(frozen=True)
class RunIdentity:
    """Everything that decides the result of a run.

    Args:
        data: fingerprint of every split, by split name.
        labels: label names in order.
        base_model: the model spec as given; None for a method without one.
        revision: commit or version that the spec resolved to, or a fingerprint of the weights.
        seed: the run's seed.
        settings: the other settings that change the result (`result_settings`), JSON-able.
    """

    data: Mapping[str, str]
    labels: tuple[str, ...]
    base_model: str | None
    revision: str | None
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict; `from_json` of it equals this identity."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunIdentity:
        """The identity that `to_json` wrote.

        Raises:
            CheckpointError: keys are missing or unknown.
        """
        try:
            return cls(**{**value, "labels": tuple(value["labels"])})
        except (TypeError, KeyError) as error:
            raise CheckpointError(
                f"the saved identity of the run is incomplete ({error})", "start again in another folder"
            ) from None


def result_settings(config: Mapping[str, Any], tree: LabelTree | None = None) -> dict[str, Any]:
    """The entries of a dumped run config that belong in `RunIdentity.settings`, and the hash of the labels' tree, if they form one."""
    settings = {key: value for key, value in config.items() if key not in NOT_IN_RESULT}
    return settings if tree is None else {**settings, "tree_of_labels": tree.hash}


def differences(saved: RunIdentity, now: RunIdentity) -> list[str]:
    """One readable line per difference ("seed: 0 → 1"); empty for the same run."""
    old, new = saved.to_json(), now.to_json()
    lines = [
        f"{split} data: {_digest(a)} → {_digest(b)}" for split, a, b in _changed(old["data"], new["data"])
    ]
    lines += _label_differences(old["labels"], new["labels"])
    for key in ("base_model", "revision", "seed"):
        if old[key] != new[key]:
            lines.append(f"{key.replace('_', ' ')}: {_shown(old[key])} → {_shown(new[key])}")
    lines += [f"{key}: {_shown(a)} → {_shown(b)}" for key, a, b in _changed(old["settings"], new["settings"])]
    return lines


def check_same_run(saved: RunIdentity, now: RunIdentity, force: bool = False) -> list[str]:
    """The differences, when there are none or ``force`` accepts them.

    Raises:
        CheckpointError: naming every difference.
    """
    found = differences(saved, now)
    if found and not force:
        raise CheckpointError(
            f"the run to resume is another one: {'; '.join(found)}",
            "resume with the same data and settings, choose another --out, or accept the change with --force",
        )
    return found


_ABSENT = object()


def _changed(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    pairs = [(key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in dict.fromkeys([*old, *new])]
    return [(key, a, b) for key, a, b in pairs if a is _ABSENT or b is _ABSENT or a != b]


def _label_differences(old: list[str], new: list[str]) -> list[str]:
    if old == new:
        return []
    before, now = set(old), set(new)
    added, removed = [n for n in new if n not in before], [n for n in old if n not in now]
    if not added and not removed:
        return ["labels: the same names in another order"]
    parts = [
        f"{len(names)} {verb} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
        for names, verb in ((added, "added"), (removed, "removed"))
        if names
    ]
    return [f"labels: {', '.join(parts)}"]


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else "none" if value is None else str(value)


def _digest(value: Any) -> str:
    shown = _shown(value)
    return shown if len(shown) <= 12 else f"{shown[:12]}…"
