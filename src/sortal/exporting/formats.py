"""The export formats, by name. Adding one touches its own file, this table and its tests."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from sortal.data.problems import nearest
from sortal.errors import ConfigError
from sortal.exporting.subject import Subject
from sortal.training.progress import ProgressView

Floats = npt.NDArray[np.float64]

REGISTRY = {
    "hf": "sortal.exporting.hf:HfFormat",
    "vllm": "sortal.exporting.vllm:VllmFormat",
    "adapter": "sortal.exporting.adapter:AdapterFormat",
    "onnx": "sortal.exporting.onnx:OnnxFormat",
    "gguf": "sortal.exporting.gguf:GgufFormat",
}


class Format(Protocol):
    """One entry of the registry.

    runtime: what the check loads the export with, in words.
    """

    runtime: ClassVar[str]

    def check(self, subject: Subject) -> None:
        """Refuse what this format cannot express, before weights are read.

        Raises:
            ModelError, ConfigError: why, and what to do. MissingDependencyError: a package is not installed.
        """

    def size(self, subject: Subject, parameters: int) -> int:
        """Bytes that will be written for a model of so many parameters, temporaries included."""

    def write(self, subject: Subject, folder: Path) -> None:
        """Write the model's files into an empty folder."""

    def probabilities(self, subject: Subject, folder: Path, texts: list[str], view: ProgressView) -> Floats:
        """Calibrated probabilities ``[n, labels]`` of the written files, in their own runtime."""

    def notes(self, subject: Subject) -> str:
        """How the folder is used, in Markdown."""

    def facts(self, subject: Subject) -> dict[str, Any]:
        """What ``export.json`` says beyond what all formats say."""


def get_format(name: str) -> Format:
    """The format called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in REGISTRY:
        raise ConfigError(
            f"unknown export format {name!r}{nearest(name, list(REGISTRY))}",
            f"choose from {', '.join(REGISTRY)}",
        )
    module, _, attribute = REGISTRY[name].partition(":")
    found: Format = getattr(import_module(module), attribute)()
    return found
