"""The state of an optimiser as named tensors and JSON, and back, bit for bit.

torch's own ``state_dict`` numbers the parameters and ``load_state_dict`` casts their state to the parameter's
dtype. Here state is keyed by parameter name, so a changed order or set of parameters is an error and not a
silent mix-up, and keeps its dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sortal.errors import CheckpointError

PREFIX = "optimizer/"

# How the step is computed on this machine; the saved run may have used another device.
_IMPLEMENTATION = frozenset({"params", "foreach", "fused", "capturable", "differentiable"})


def flatten_optimizer(
    optimizer: torch.optim.Optimizer, named: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors (``optimizer/<parameter>/<key>``, not copied) and a JSON-able description of the rest.

    Args:
        optimizer: any ``torch.optim`` optimiser with per-parameter state.
        named: parameter by name, covering every parameter of the optimiser.

    Raises:
        ValueError: the optimiser holds a parameter that ``named`` lacks.
    """
    names = _names(optimizer, named)
    tensors: dict[str, torch.Tensor] = {}
    described: dict[str, Any] = {}
    for group in names:
        for name in group:
            values = optimizer.state.get(named[name])
            if values is None:
                continue
            held = [key for key, value in values.items() if isinstance(value, torch.Tensor)]
            tensors |= {f"{PREFIX}{name}/{key}": values[key] for key in held}
            plain = {key: value for key, value in values.items() if key not in held}
            described[name] = {"shape": list(named[name].shape), "tensors": held, "values": plain}
    groups = [
        {"names": group_names, "values": {k: _plain(v) for k, v in group.items() if k not in _IMPLEMENTATION}}
        for group, group_names in zip(optimizer.param_groups, names, strict=True)
    ]
    return tensors, {"groups": groups, "state": described}


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    named: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    description: Mapping[str, Any],
) -> None:
    """Put the state and hyper-parameters saved by `flatten_optimizer` into ``optimizer``.

    Args:
        optimizer: built over the same parameters in the same groups; its own state is dropped.
        named: parameter by name.
        tensors: may hold other entries too, they are ignored; the tensors are copied.
        description: the second part of what `flatten_optimizer` returned.

    Raises:
        CheckpointError: other parameters, groups or shapes than those saved; the optimiser is unchanged.
    """
    names = _names(optimizer, named)
    _check(names, named, tensors, description)
    optimizer.state.clear()
    for group, group_names, saved in zip(optimizer.param_groups, names, description["groups"], strict=True):
        for key, value in saved["values"].items():
            if isinstance(group.get(key), torch.Tensor):
                group[key].fill_(value)
            else:
                group[key] = tuple(value) if isinstance(group.get(key), tuple) else value
        # Where torch itself keeps the step counter: beside the parameter only for these two implementations.
        step_on_device = group.get("fused") or group.get("capturable")
        for name in group_names:
            entry = description["state"].get(name)
            if entry is None:
                continue
            parameter = named[name]
            values: dict[str, Any] = dict(entry["values"])
            for key in entry["tensors"]:
                device = torch.device("cpu") if key == "step" and not step_on_device else parameter.device
                values[key] = tensors[f"{PREFIX}{name}/{key}"].to(device, copy=True)
            optimizer.state[parameter] = values


def _names(optimizer: torch.optim.Optimizer, named: Mapping[str, torch.Tensor]) -> list[list[str]]:
    by_id = {id(parameter): name for name, parameter in named.items()}
    try:
        return [[by_id[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    except KeyError:
        raise ValueError("the optimiser holds a parameter that `named` does not name") from None


def _check(
    names: list[list[str]],
    named: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    description: Mapping[str, Any],
) -> None:
    fix = "resume with the settings of the run that wrote the checkpoint, or start again in another folder"
    saved_groups = [group["names"] for group in description["groups"]]
    if [set(group) for group in names] != [set(group) for group in saved_groups]:
        now, saved = {n for group in names for n in group}, {n for group in saved_groups for n in group}
        changed = sorted(now ^ saved)
        what = (
            f"{len(changed)} parameters differ, first {changed[0]}" if changed else "other parameter groups"
        )
        raise CheckpointError(f"the checkpoint's optimiser state is for another model: {what}", fix)
    for name, entry in description["state"].items():
        if entry["shape"] != list(named[name].shape):
            raise CheckpointError(
                f"the checkpoint's optimiser state for {name} has shape {entry['shape']}, "
                f"the parameter {list(named[name].shape)}",
                fix,
            )
        missing = [key for key in entry["tensors"] if f"{PREFIX}{name}/{key}" not in tensors]
        if missing:
            raise CheckpointError(f"the checkpoint lacks the optimiser's {missing[0]} of {name}", fix)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value
