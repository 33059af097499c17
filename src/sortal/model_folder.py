"""``sortal.json``: what a model folder knows about itself beyond what transformers and peft keep."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sortal.data.labels import LabelSpace
from sortal.errors import DataError, ModelError
from sortal.evaluation.decision import Decision
from sortal.hierarchy.tree import LabelTree

NAME = "sortal.json"
FORMAT = 1


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write ``sortal.json`` with the format number and SHA-256 of the weight files."""
    hashes = {p.name: _sha256(p) for p in sorted(folder.iterdir()) if p.suffix == ".safetensors"}
    text = json.dumps({"format": FORMAT, **meta, "files": hashes}, ensure_ascii=False, indent=2)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def read_meta(folder: Path) -> dict[str, Any]:
    """The checked content of ``sortal.json``.

    Raises:
        ModelError: not a model folder, damaged, of a newer format, or holding pickle weights.
    """
    if (folder / "model" / NAME).is_file() and not (folder / NAME).exists():
        raise ModelError(f"{folder} is a run's folder, not a model's", f"use {folder / 'model'}")
    try:
        meta = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder} is not a Sortal model folder: it has no {NAME}",
            "give the model/ folder of a finished run",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder / NAME} is damaged ({error})", "restore it from the run that made it"
        ) from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise ModelError(
            f"{folder / NAME} has format {found!r}; this version reads {FORMAT}",
            "use the version of Sortal that wrote it",
        )
    missing = {"method", "task", "labels", "decision", "base_model"} - set(meta)
    if missing:
        raise ModelError(
            f"{folder / NAME} lacks {', '.join(sorted(missing))}", "restore it from the run that made it"
        )
    pickled = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]
    if pickled:
        raise ModelError(
            f"{folder} holds pickle weights ({pickled[0]}), which can run code when read",
            "keep safetensors files only",
        )
    for name, digest in meta.get("files", {}).items():
        path = folder / name
        if not path.exists():
            raise ModelError(f"{path} is missing", "restore it from the run that made it")
        if _sha256(path) != digest:
            raise ModelError(
                f"{path} is not the file this model was saved with (SHA-256 differs)",
                "restore it from the run that made it",
            )
    return meta


def label_space(meta: dict[str, Any]) -> LabelSpace:
    """The frozen label order, with the tree of the labels if they form one.

    Raises:
        ModelError: the tree was edited, or is one of other labels.
    """
    try:
        tree = None if meta.get("tree") is None else LabelTree.from_json(meta["tree"])
        return LabelSpace(tuple(meta["labels"]), meta["task"], tree)
    except DataError as error:
        raise ModelError(f"{NAME}: {error.what}", "restore it from the run that made it") from None


def decision(meta: dict[str, Any]) -> Decision:
    """The decision rule fitted on dev."""
    return replace(Decision.from_json(meta["decision"]), tree=label_space(meta).tree)


def decision_alone(meta: dict[str, Any]) -> Decision:
    """The decision rule of a blend's tuned part; without temperature and thresholds where the folder knows none of its own."""
    whole = decision(meta)
    if (known := meta.get("without_blend")) is None:
        return Decision(whole.task, 1.0, None, None, whole.tree)
    return replace(Decision.from_json(known["decision"]), tree=whole.tree)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
