"""A model folder that goes where its estimator goes."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from sortal.classifier import Classifier, load


class KeptModel:
    """A model folder in the system's temporary folder, removed with this object.

    A pickle of it holds the bytes of the folder's files (safetensors and JSON, never a pickled model), so that a copy, another
    process and another machine have a model that does not end with this one. It is loaded when it is first used.
    """

    def __init__(self) -> None:
        place = Path(tempfile.mkdtemp(prefix="sortal-model-"))
        self.folder = place / "model"
        self._classifier: Classifier | None = None
        # By the process that made it: a forked child that ends would take its parent's model away.
        weakref.finalize(self, _remove, place, os.getpid())

    @classmethod
    def take(cls, folder: Path, classifier: Classifier) -> KeptModel:
        """Move a model folder into one of its own; ``classifier`` is what it holds."""
        kept = cls()
        shutil.move(folder, kept.folder)
        kept._classifier = classifier
        return kept

    @property
    def classifier(self) -> Classifier:
        """The classifier in the folder."""
        if self._classifier is None:
            self._classifier = load(self.folder)
        return self._classifier

    def __getstate__(self) -> dict[str, Any]:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {"files": {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        KeptModel.__init__(self)
        for name, content in state["files"].items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _remove(place: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(place, ignore_errors=True)
