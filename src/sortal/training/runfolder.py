"""The folder of one run: where its files go, what state it is in, and whether a new run may use it.

Imports neither torch nor a model, so that a folder that cannot be used is refused in the first second.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sortal.errors import ResourceError, RunFolderError
from sortal.training.atomic import is_leftover, write_json
from sortal.training.lock import LOCK_NAME

FolderState = Literal["new", "unfinished", "finished"]

SPLIT_NAME = "split.parquet"
REPORT_NAMES = ("report.html", "report.md", "report.json")
_STATUSES = ("running", "failed", "stopped", "finished")
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
_TABLES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".xml"}


class RunFolder:
    """Paths and state of ``runs/<name>/``; making the object touches nothing on disk."""

    def __init__(self, out: str | Path) -> None:
        self.path = Path(out)
        self.run_json = self.path / "run.json"
        self.metrics_json = self.path / "metrics.json"
        self.predictions = self.path / "predictions.parquet"
        self.dev_predictions = self.path / "dev_predictions.parquet"
        self.twins = self.path / "twins.csv"
        self.model = self.path / "model"
        self.checkpoints = self.path / "checkpoints"
        self.members = self.path / "members"
        self.logs = self.path / "logs"

    @property
    def holds_work(self) -> bool:
        """Whether a run that did not finish left something to go on from: checkpoints, or members of an ensemble."""
        return self.checkpoints.exists() or self.members.exists()

    def state(self) -> FolderState:
        """What is there, without writing anything.

        Raises:
            RunFolderError: the name is a file's, the folder holds something else than a run, or its run.json
                is damaged.
        """
        try:
            if not self.path.exists():
                if not next(parent for parent in self.path.absolute().parents if parent.exists()).is_dir():
                    raise NotADirectoryError
                return "new"
            names = [p.name for p in self.path.iterdir() if p.name != LOCK_NAME and not is_leftover(p.name)]
        except NotADirectoryError:
            raise RunFolderError(f"{self.path} is or lies under a file", "choose another --out") from None
        except OSError as error:
            raise RunFolderError(
                f"{self.path} cannot be read: {error.strerror}", "choose another --out"
            ) from None
        if not names:
            return "new"
        if self.run_json.name not in names:
            raise RunFolderError(
                f"{self.path} is not empty and not a run's folder (it holds {sorted(names)[0]!r})",
                "choose another --out",
            )
        return "finished" if self.read_run_json().get("status") == "finished" else "unfinished"

    def prepare(self, resume: bool) -> FolderState:
        """Make the folder and answer what this run finds there; call it before any model is loaded.

        Args:
            resume: the user asked to continue the run that is there.

        Returns:
            "new" (also with ``resume``, when there is nothing to continue); with ``resume`` also "unfinished"
            (continue) and "finished" (nothing left to do).

        Raises:
            RunFolderError: unwritable, not a run's folder, or a run is there and ``resume`` is False.
        """
        state = self.state()
        if state == "finished" and not resume:
            raise RunFolderError(
                f"{self.path} holds a finished run", "choose another --out, or delete that folder first"
            )
        if state == "unfinished" and not resume:
            raise RunFolderError(
                f"{self.path} holds a run that did not finish",
                "continue it with --resume, or choose another --out",
            )
        if state != "finished":
            self._check_writable()
        return state

    def start(self, config: Mapping[str, Any], identity: Mapping[str, Any], **more: Any) -> None:
        """Record a run that begins (status "running"), or one that is resumed (its first start is kept)."""
        earlier = self.read_run_json() if self.run_json.exists() else {}
        record = {"status": "running", "started": earlier.get("started", _now())}
        if earlier:
            record["resumed"] = [*earlier.get("resumed", []), _now()]
        self.write_run_json({**record, "config": dict(config), "identity": dict(identity), **more})

    def finish(self, **more: Any) -> None:
        """Record the end of the run (status "finished") with what it measured."""
        self.write_run_json({**self.read_run_json(), **more, "status": "finished", "ended": _now()})

    def fail(self, reason: str, status: Literal["failed", "stopped"] = "failed", **more: Any) -> None:
        """Record why the run ended early: an error, or a signal ("stopped"); silent when even that cannot be written.

        It runs while another error is on its way to the user, which it must not replace.
        """
        with contextlib.suppress(ResourceError, RunFolderError):
            record = self.read_run_json()
            self.write_run_json({**record, **more, "status": status, "reason": reason, "ended": _now()})

    def discard(self) -> None:
        """Remove the files of a run that failed before there was anything to keep; other files stay."""
        for path in (self.run_json, self.metrics_json, self.predictions, self.twins, self.path / SPLIT_NAME):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        for path in (self.model, self.checkpoints, self.logs):
            shutil.rmtree(path, ignore_errors=True)

    def write_run_json(self, values: Mapping[str, Any]) -> None:
        """Replace run.json atomically."""
        write_json(self.run_json, dict(values))

    def read_run_json(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            RunFolderError: missing, damaged, or not written by this program.
        """
        fix = "choose another --out, or put back a copy of the file"
        try:
            values = json.loads(self.run_json.read_bytes())
        except OSError as error:
            raise RunFolderError(f"{self.run_json} cannot be read: {error.strerror}", fix) from None
        except ValueError:
            raise RunFolderError(f"{self.run_json} is damaged: it is not JSON", fix) from None
        if not isinstance(values, dict) or values.get("status") not in _STATUSES:
            raise RunFolderError(f"{self.run_json} is not the record of a run: it has no status", fix)
        return values

    def _check_writable(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise RunFolderError(
                f"{self.path} is not writable: {error.strerror}", "choose another --out"
            ) from None


def default_out(
    data: str, method: str, seed: int, *, resume: bool = False, root: str | Path = "runs"
) -> Path:
    """``<root>/<data name>-<method>-<seed>``, with ``-2``, ``-3`` … while that name is taken.

    With ``resume`` it is the newest of these names that is taken, or the first name when none is.
    """
    base = f"{_data_name(data)}-{method}-{seed}"
    last = Path(root) / base
    number = 1
    path = last
    while path.exists():
        number, last = number + 1, path
        path = Path(root) / f"{base}-{number}"
    return last if resume else path


def _data_name(data: str) -> str:
    name = Path(data).name
    while Path(name).suffix.lower() in _COMPRESSED | _TABLES:
        name = Path(name).stem
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
