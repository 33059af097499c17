"""What is exported: a model folder with its label order and decision, and what the user asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortal import model_folder
from sortal.data.labels import LabelSpace
from sortal.data.problems import nearest
from sortal.errors import ConfigError, ModelError
from sortal.evaluation.decision import Decision

DTYPES = ("float32", "float16", "bfloat16")
MODELS = ("head", "probe", "encoder", "instruct")


@dataclass(frozen=True)
class Subject:
    """A model folder to export.

    decision: what the answers of the export go through; of a blend's tuned part alone, that part's own.
    dtype: in which weights are stored. int8: whether they are quantised to 8 bits on top.
    """

    folder: Path
    meta: dict[str, Any]
    space: LabelSpace
    decision: Decision
    dtype: str
    int8: bool

    @property
    def method(self) -> str:
        """``head``, ``probe``, ``encoder`` or ``instruct``."""
        return str(self.meta["method"])

    @property
    def stored(self) -> str:
        """How weights are stored: the dtype, or ``int8``."""
        return "int8" if self.int8 else self.dtype

    @property
    def max_length(self) -> int | None:
        """Tokens that a text with its template or prompt may have."""
        length: int | None = self.meta["max_length"]
        return length

    @property
    def long(self) -> dict[str, Any] | None:
        """What sortal.json says about sections and windows, which no other runtime knows; None for plain texts."""
        found: dict[str, Any] | None = self.meta.get("long_texts")
        return found


def read_subject(folder: Path, to: str, dtype: str | None, *, int8: bool, without_blend: bool) -> Subject:
    """Read ``sortal.json`` and refuse what no format can express.

    Raises:
        ModelError: not a model folder, a baseline, a blend without consent, a tree of labels that is more than names, attention to both sides
            or over windows. ConfigError: unknown dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(
            f"unknown dtype {dtype!r}{nearest(dtype, list(DTYPES))}", f"choose from {', '.join(DTYPES)}"
        )
    meta = model_folder.read_meta(folder)
    method, decision = meta["method"], model_folder.decision(meta)
    if method == "ensemble":
        raise ModelError(
            f"{folder} adds the scores of several models, and an export holds one",
            "serve it with sortal serve, or export a member: members/0 in that folder, whose answers are its own",
        )
    if method not in MODELS:
        raise ModelError(
            f"{folder} is a model of method {method}, which no export format holds: it has no network",
            "use sortal predict or sortal serve, which run it without a pretrained model",
        )
    if "blend" in meta and not without_blend:
        raise ModelError(
            f"{folder} is a blend of a {method} with tfidf, and {to} has no place for the linear model on words",
            f"serve it with sortal serve, or export the tuned model alone with --without-blend: {told_apart(meta)}",
        )
    if "blend" in meta:
        decision = model_folder.decision_alone(meta)
    if meta.get("hierarchy", "flat") != "flat":
        raise ModelError(
            f"{folder} was trained with hierarchy {meta['hierarchy']!r}, and {to} has no place for what makes labels of its choices",
            "use sortal predict or sortal serve, or train with hierarchy flat",
        )
    if decision.tree is not None and decision.task == "multi":
        raise ModelError(
            f"{folder} keeps every label at most as probable as the one above it in their tree, and {to} has no place for that",
            "use sortal predict or sortal serve",
        )
    if meta.get("bidirectional"):
        raise ModelError(
            f"{folder} lets a causal model's tokens see those after them, which no runtime but Sortal's does",
            "train without bidirectional, or use sortal serve",
        )
    subject = Subject(folder, meta, model_folder.label_space(meta), decision, dtype or "float32", int8)
    if subject.long is not None and subject.long["aggregation"] == "attention":
        raise ModelError(
            f"{folder} weighs the windows of a text by an attention that it learned, and {to} has no place for it",
            "train with aggregation mean or max, which callers can do with the scores of windows, or use sortal serve",
        )
    return subject


def told_apart(meta: dict[str, Any]) -> str:
    """What a blend's tuned part is without the linear model."""
    if "without_blend" not in meta:  # made before parts had decisions of their own
        return (
            "answers are others without it, and have no temperature and thresholds, which belong to the blend"
        )
    dev = meta["without_blend"]["dev"]
    return f"answers are others without it (dev {dev['metric']} {dev['alone']:.4f}, with it {dev['blended']:.4f})"


def refuse_method(subject: Subject, to: str, fitting: tuple[str, ...], instead: str) -> None:
    """Refuse a model whose method ``to`` does not hold."""
    if subject.method not in fitting:
        raise ModelError(
            f"--to {to} is for {' and '.join(fitting)} models, and {subject.folder} is one of method {subject.method}",
            instead,
        )
