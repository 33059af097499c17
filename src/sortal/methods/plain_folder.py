"""JSON files of the methods without a pretrained model: written with a hash, and read back whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sortal.data.labels import LabelSpace
from sortal.errors import ModelError
from sortal.training.atomic import write_json


def save_json(path: Path, values: dict[str, Any], label_space: LabelSpace) -> dict[str, Any]:
    """Write ``values`` and the label order to ``path``; returns the entry of sortal.json that `load_json` wants."""
    write_json(path, values | {"labels": list(label_space.names)})
    return {f"{path.stem}_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def load_json(path: Path, meta: dict[str, Any], label_space: LabelSpace) -> dict[str, Any]:
    """What `save_json` wrote; with a matching hash its inside needs no checks.

    Args:
        meta: the content of sortal.json.

    Raises:
        ModelError: missing, damaged, or for other labels or another label order than ``label_space``.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", "restore it from the run that made it") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "check the file's permissions") from None
    if hashlib.sha256(data).hexdigest() != meta.get(f"{path.stem}_sha256"):
        raise ModelError(
            f"{path} is not the file this model was saved with (SHA-256 differs)",
            "restore it and sortal.json from one run",
        )
    values: dict[str, Any] = json.loads(data)
    if tuple(values.pop("labels")) != label_space.names:
        raise ModelError(
            f"{path} and sortal.json disagree about the labels", "restore both files from one run"
        )
    return values
