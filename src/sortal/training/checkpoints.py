"""Checkpoints that are complete and undamaged, or not used.

A checkpoint is the folder ``step-00000012/`` with ``tensors.safetensors``, ``state.json`` and a ``manifest.json``
holding the size and SHA-256 of both. It is written through `atomic_folder`, so it is never seen half-written;
the hashes catch what the disk does to it afterwards. There is no pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sortal.errors import CheckpointError
from sortal.training.atomic import atomic_folder, discard_folder, remove_leftovers

FORMAT = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk: its folder and the number of optimiser steps it was written after."""

    path: Path
    step: int

    def damage(self) -> str | None:
        """Why this checkpoint cannot be used, or None when every byte is as it was written."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_bytes())
            version, step, files = manifest["format"], manifest["step"], manifest["files"]
            expected = {name: (files[name]["bytes"], files[name]["sha256"]) for name in (TENSORS, STATE)}
        except FileNotFoundError:
            return f"{MANIFEST} is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{MANIFEST} is unreadable: {type(error).__name__} {error}"
        if version != FORMAT:
            return f"{MANIFEST} has format {version!r}, this version reads {FORMAT}"
        if step != self.step:
            return f"{MANIFEST} says step {step!r}"
        for name, (size, digest) in expected.items():
            try:
                actual = (self.path / name).stat().st_size
                if actual != size:
                    return f"{name} has {actual} bytes instead of {size}"
                if _sha256(self.path / name) != digest:
                    return f"the contents of {name} do not match their SHA-256"
            except OSError as error:
                return f"{name}: {error.strerror}"
        return None

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The tensors (on CPU, dtypes as saved) and the JSON state.

        Raises:
            CheckpointError: the checkpoint is damaged.
        """
        reason = self.damage()
        if reason is not None:
            raise CheckpointError(f"checkpoint {self.path} is damaged: {reason}", "use an earlier one")
        # load_file maps the file into memory; without the copy, later damage to the file would reach the tensors
        tensors = {name: tensor.clone() for name, tensor in load_file(self.path / TENSORS).items()}
        return tensors, json.loads((self.path / STATE).read_bytes())


class CheckpointStore:
    """The checkpoints of one run.

    Only one process may use a store at a time (`sortal.training.lock.FolderLock`); what a killed one left
    half-written is removed here.

    Args:
        folder: the run's ``checkpoints/``; made at the first save.
        keep: complete checkpoints kept, the newest included.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder = Path(folder)
        self.keep = keep
        self._damaged: set[Path] = set()
        remove_leftovers(self.folder)

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint and, once it is complete, remove those beyond ``keep``; the folder written.

        Args:
            step: optimiser steps done; an existing checkpoint of this step is replaced.
            tensors: any dtype, device and shape; views and shared storage are written out in full.
            state: JSON-able; tuples come back as lists and integer keys as strings. Infinities are kept.

        Raises:
            ResourceError: the disk is full; earlier checkpoints are intact.
        """
        state_bytes = json.dumps(state).encode("ascii")
        own = _own_storage(tensors)
        needed = sum(tensor.nbytes for tensor in own.values()) + 160 * len(own) + len(state_bytes) + 1024
        final = self.folder / f"step-{step:08d}"
        with atomic_folder(final, needed) as folder:
            save_file(own, folder / TENSORS)
            (folder / STATE).write_bytes(state_bytes)
            files = {
                name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
                for name in (TENSORS, STATE)
            }
            manifest = {"format": FORMAT, "step": step, "files": files}
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        self._damaged.discard(final)
        self._prune(step)
        return final

    def latest(self, say: Callable[[str], object]) -> Checkpoint | None:
        """The newest checkpoint whose hashes hold, or None when there are no checkpoints at all.

        Args:
            say: told about every damaged checkpoint passed over, with the reason.

        Raises:
            CheckpointError: there are checkpoints, and every one is damaged.
        """
        reasons = []
        for checkpoint in reversed(self.all()):
            reason = checkpoint.damage()
            if reason is None:
                return checkpoint
            self._damaged.add(checkpoint.path)
            reasons.append(f"{checkpoint.path.name}: {reason}")
            say(f"warning: checkpoint {checkpoint.path.name} is damaged ({reason}); trying the one before it")
        if reasons:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be used ({'; '.join(reasons)})",
                "put back a copy of one of them, or start again in another folder",
            )
        return None

    def all(self) -> list[Checkpoint]:
        """Every checkpoint folder, oldest first, damaged ones included."""
        if not self.folder.is_dir():
            return []
        matches = ((path, _NAME.fullmatch(path.name)) for path in self.folder.iterdir() if path.is_dir())
        found = [Checkpoint(path, int(match[1])) for path, match in matches if match]
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def _prune(self, newest: int) -> None:
        # Later steps belong to a future given up by resuming from an earlier checkpoint.
        useful = [c for c in self.all() if c.step <= newest and c.path not in self._damaged]
        kept = useful[-self.keep :]
        for checkpoint in self.all():
            if checkpoint not in kept:
                discard_folder(checkpoint.path)


def _own_storage(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # safetensors refuses tensors that share memory, as tied weights and slices of one buffer do.
    own: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().to("cpu").contiguous()
        if tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        own[name] = tensor
    return own


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
