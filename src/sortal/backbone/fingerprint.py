"""Which weights an adapter belongs to: a folder or a hub id may hold others tomorrow."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open


def weights_fingerprint(folder: str | Path) -> str:
    """First 16 hex digits of a SHA-256 over name, shape, type and first row of every tensor in a model folder.

    Reads kilobytes of gigabytes. Any tuning of the weights changes it; sharding and file layout do not.

    Raises:
        OSError: a weight file cannot be read.
    """
    rows: dict[str, bytes] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                part = file.get_slice(name)
                shape = part.get_shape()
                first = (
                    part[tuple(slice(0, 1) for _ in shape[:-1])] if len(shape) > 1 else file.get_tensor(name)
                )
                described = json.dumps([name, shape, str(first.dtype)]).encode()
                rows[name] = described + first.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    digest = hashlib.sha256()
    for name in sorted(rows):
        digest.update(rows[name])
    return digest.hexdigest()[:16]
