"""What a folder holds: one finished run, or a comparison with its finished runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sortal.comparison.names import method_name
from sortal.comparison.results import RESULT_NAME, Comparison
from sortal.errors import DataError, RunFolderError
from sortal.evaluation.predictions import Predictions, read_predictions
from sortal.training.runfolder import RunFolder

_RECORD = {"config", "data", "training", "inference"}
_METRICS = {"task", "n", "n_labels", "intervals", "interval_method", "per_label", "calibration_bins", "ece"}


@dataclass(frozen=True)
class FinishedRun:
    """One run: the content of its run.json and metrics.json; predictions are read when they are asked for.

    method: as a comparison calls it: ``head``, ``head+tfidf`` for a blend, ``head@small`` for a form of its own.
    """

    folder: RunFolder
    method: str
    record: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def seed(self) -> int:
        """Of training."""
        return int(self.record["config"]["seed"])

    @property
    def single(self) -> bool:
        """Whether every row has one label."""
        return bool(self.metrics["task"] == "single")

    @property
    def metric(self) -> str:
        """The figure that stands for the run when no comparison has chosen another."""
        return "accuracy" if self.single else "f1_micro"

    @cached_property
    def predictions(self) -> Predictions:
        """Of the test rows, with gold labels.

        Raises:
            RunFolderError: missing or damaged, or of other rows than metrics.json.
        """
        path = self.folder.predictions
        try:
            found = read_predictions(path)
        except DataError as error:
            raise RunFolderError(error.what, "put back a copy of the file, or train again") from None
        if found.gold is None or len(found.ids) != self.metrics["n"]:
            raise RunFolderError(
                f"{path} does not belong to {self.folder.metrics_json.name} beside it: it has {len(found.ids):,} rows"
                f"{' without gold labels' if found.gold is None else ''}, not {self.metrics['n']:,}",
                "put back the file of this run, or train again",
            )
        return found


@dataclass(frozen=True)
class Source:
    """A folder to report on.

    comparison: None for one run.
    runs: finished ones, seed by seed.
    """

    folder: Path
    comparison: Comparison | None
    runs: tuple[FinishedRun, ...]

    @property
    def metric(self) -> str:
        """The compared metric, or the run's own."""
        return self.runs[0].metric if self.comparison is None else self.comparison.metric

    @property
    def shown(self) -> FinishedRun:
        """The run whose details are shown: of a comparison, the first of the method with the highest value."""
        if self.comparison is None:
            return self.runs[0]
        best = max(self.comparison.methods, key=lambda summary: summary.value).method
        return next(run for run in self.runs if run.method == best)


def read_source(folder: str | Path) -> Source:
    """Read what ``folder`` holds.

    Raises:
        RunFolderError: neither a run's folder nor a comparison's, nothing in it has finished, or a file is damaged.
    """
    folder = Path(folder)
    if (folder / RESULT_NAME).is_file():
        return _comparison(folder)
    if (folder / "run.json").is_file():
        return Source(folder, None, (_run(folder),))
    if (folder / "settings").is_dir() and (folder / "runs").is_dir():
        raise RunFolderError(
            f"no run of the comparison in {folder} has finished", "give the same sortal compare command again"
        )
    missing = "does not exist" if not folder.exists() else "has neither a run.json nor a comparison.json"
    above = folder.name == "model" and (folder.parent / "run.json").is_file()
    raise RunFolderError(
        f"{folder} {missing}",
        f"give the run's folder, {folder.parent}" if above else "give the --out folder of sortal train or sortal compare",
    )  # fmt: skip


def _comparison(folder: Path) -> Source:
    path = folder / RESULT_NAME
    values = _read_json(path)
    try:
        found = Comparison.from_json(values)
        methods = {str(c["name"]): str(c["method"]) for c in found.cells if c["status"] == "finished"}
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path} is damaged or of another version ({error})",
            "give the same sortal compare command again: runs that are finished are only read",
        ) from None
    if not methods or not found.methods:
        raise RunFolderError(
            f"no run of the comparison in {folder} has finished", "give the same sortal compare command again"
        )
    # By name and not by the recorded path: the folder may have been moved.
    runs = (_run(folder / "runs" / Path(name).name, method) for name, method in methods.items())
    return Source(folder, found, tuple(runs))


def _run(path: Path, method: str | None = None) -> FinishedRun:
    folder = RunFolder(path)
    record = folder.read_run_json()
    if record["status"] != "finished":
        raise RunFolderError(
            f"the run in {path} has not finished (its status is {record['status']})",
            "continue it with sortal train --resume",
        )
    if record.get("data", {}).get("test", {}).get("rows") == 0:
        raise RunFolderError(
            f"the run in {path} had no test rows, and a report needs some",
            "train with --test FILE or a test_size above 0",
        )
    metrics = _read_json(folder.metrics_json)
    for name, values, needed in (("run.json", record, _RECORD), ("metrics.json", metrics, _METRICS)):
        if lacking := sorted(needed - set(values)):
            raise RunFolderError(
                f"{path / name} lacks {', '.join(lacking)}", "put back a copy of the file, or train again"
            )
    return FinishedRun(folder, method or method_name(record["config"]), record, metrics)


def _read_json(path: Path) -> dict[str, Any]:
    fix = "put back a copy of the file, or make it again"
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}", fix) from None
    except ValueError:
        raise RunFolderError(f"{path} is damaged: it is not JSON", fix) from None
    if not isinstance(values, dict):
        raise RunFolderError(f"{path} is damaged: it holds no object", fix)
    return values
